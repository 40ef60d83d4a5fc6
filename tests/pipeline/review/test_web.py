"""Tests of the HTTP interface of a review, on a real port."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
from PIL import Image

from imgpipe.components.image_filter.judge import overrides
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.commands import review as command
from imgpipe.pipeline.review import web
from tests.pipeline.review import run_to_review
from tests.pipeline.review.run_to_review import IMAGES, digest
from tests.serving.quick import asked

CAT = digest("cat/0.png")


class Browser:
    """A client that sends requests as the page does, with the token of its address."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host = parts.netloc
        self.headers = {"X-Imgpipe-Token": parts.fragment}

    def ask(self, verb, path, content=None, **headers):
        return asked(self.host, verb, path, content, self.headers | headers)

    def json(self, verb, path, content=None, **headers):
        answer = self.ask(verb, path, content, **headers)
        return answer.status, answer.json()


@pytest.fixture
def review(tmp_path):
    return run_to_review.prepared(tmp_path)


@pytest.fixture
def browser(review):
    """Yield a client of a review that is being served."""
    with web.running(review, "127.0.0.1", 0) as (address, _):
        yield Browser(address)


ACCEPTED = {"images": [CAT], "verdict": "accept", "label": ""}


def test_an_answer_is_written_to_the_overrides_file_and_can_be_undone(browser, review):
    _, state = browser.json("GET", "/review")
    assert state["kinds"]["rejected"] == 3 and state["view"]["kind"] == "doubtful"
    assert state["apply"].endswith("config.toml"), "the next run finds the decisions by itself"
    decision = {"verdict": "relabel", "label": "dog"}
    assert browser.json("POST", "/review/answers", {"images": [CAT], **decision}) == (
        200,
        {"decisions": {CAT: decision}, "decided": {"relabel": 1}},
    )
    assert browser.json("GET", "/review/images?kind=doubtful")[1]["images"][0]["decision"] == (
        decision
    )
    (entry,) = overrides.load(review.decisions.file)
    assert (entry.image_hash, entry.label) == (CAT, "dog")
    undone = {"decisions": {CAT: {"verdict": "", "label": ""}}, "decided": {}}
    assert browser.json("POST", "/review/undo", {}) == (200, undone)
    assert browser.json("POST", "/review/undo", {}) == (200, {"decisions": {}, "decided": {}})
    assert overrides.load(review.decisions.file) == ()


def test_a_view_comes_in_pages(browser, monkeypatch):
    monkeypatch.setattr(web, "PAGE", 4)
    _, first = browser.json("GET", "/review/images?kind=all&order=file")
    _, rest = browser.json("GET", "/review/images?kind=all&order=file&start=4")
    paths = [image["path"] for page in (first, rest) for image in page["images"]]
    assert first["total"] == 9 and paths == sorted(run_to_review.ROWS)[:8]
    for query in ("kind=x", "start=x", "order=x"):
        status, content = browser.json("GET", f"/review/images?{query}")
        assert status == 400 and "no such view" in content["error"]


def test_images_come_from_the_source_by_hash_and_no_other_file_does(browser, tmp_path):
    answer = browser.ask("GET", f"/review/pictures/{CAT}")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(answer.body)).size == (80, 60), "as the file"
    small = browser.ask("GET", f"/review/pictures/{CAT}?small").body
    assert max(Image.open(io.BytesIO(small)).size) <= 320
    status, content = browser.json("GET", f"/review/pictures/{digest('cat/broken.jpg')}")
    assert status == 404 and "because it is damaged" in content["error"]
    for other in ("0" * 64, "..%2f..%2fetc%2fpasswd"):
        assert browser.ask("GET", f"/review/pictures/{other}").status == 404
    (tmp_path / "photos" / "cat" / "0.png").write_bytes(IMAGES["dog/1.png"])
    status, content = browser.json("GET", f"/review/pictures/{CAT}")
    assert status == 404 and "has changed since the run" in content["error"]
    (tmp_path / "photos" / "dog" / "0.png").unlink()
    assert browser.ask("GET", f"/review/pictures/{digest('dog/0.png')}").status == 404


def test_requests_without_the_token_or_from_another_site_are_refused(browser, review):
    answer = ACCEPTED
    host = browser.host
    for headers in (
        {"X-Imgpipe-Token": ""},
        {"X-Imgpipe-Token": "wr\xf6ng"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ):
        for verb, path in (
            ("POST", "/review/answers"),
            ("POST", "/review/undo"),
            ("GET", "/review"),
            ("GET", "/review/images"),
        ):
            status, content = browser.json(verb, path, answer, **headers)
            assert status == 403, headers
            assert re.search("imgpipe review prints|names the host", content["error"])
        assert browser.ask("GET", f"/review/pictures/{CAT}", **headers).status == 403
    assert not review.decisions.made()
    assert browser.json("POST", "/review/answers", answer, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "An answer is JSON"),
        (b"[" * 9000, "An answer is JSON"),
        ({"images": [3], "verdict": "accept", "label": ""}, "An answer is JSON"),
        ({"images": [CAT], "verdict": "accept"}, "An answer is JSON"),
        ({"images": [CAT], "verdict": "relabel", "label": "../cow"}, "'../cow' is not a class"),
        (ACCEPTED | {"verdict": "keep"}, "one of accept, reject, relabel"),
        (ACCEPTED | {"images": ["0" * 64]}, "has no such image"),
    ],
)
def test_a_wrong_answer_is_refused_and_writes_nothing(browser, review, content, words):
    status, answer = browser.json("POST", "/review/answers", content)
    assert status == 400 and words in answer["error"]
    assert not review.decisions.file.exists()


def test_a_damaged_overrides_file_is_reported(browser, review):
    review.decisions.file.write_text("x = [")
    status, content = browser.json("POST", "/review/answers", ACCEPTED)
    assert status == 409 and "is not valid TOML" in content["error"]


def test_the_page_loads_nothing_from_other_sites(browser):
    page = browser.ask("GET", "/")
    assert page.status == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    html = page.body.decode()
    named = set(re.findall(r'(?:src|href)="([^"]*)"', html))
    assert named == {"data:,", "web/style.css", "web/review.css", "web/review.js"}
    for name in named - {"data:,"}:
        answer = browser.ask("GET", f"/{name}")
        assert answer.status == 200
        assert not re.search(rb"innerHTML|document\.write|eval\(|https?://", answer.body)
    assert not re.search(r"\son\w+=|\sstyle=", html)
    assert browser.ask("GET", "/web/web.py").status == 404


def test_the_newest_run_and_its_overrides_file_are_used(tmp_path):
    photos = run_to_review.write(tmp_path / "photos")
    run = run_to_review.leave(
        tmp_path / "out", photos, [f"judge.overrides={json.dumps(str(tmp_path / 'mine.toml'))}"]
    )
    for path in (tmp_path / "out", run.folder):
        assert command.run_to_review(path).folder == run.folder
    prepared = command.prepare(run, None)
    assert prepared.decisions.file == tmp_path / "mine.toml"
    assert prepared.apply.endswith(f"--set judge.overrides={tmp_path / 'mine.toml'}")
    assert command.prepare(run, tmp_path / "x.toml").decisions.file == tmp_path / "x.toml"
    with pytest.raises(ConfigError, match=r"--to .*/none/x\.toml: there is no folder"):
        command.prepare(run, tmp_path / "none" / "x.toml")
    (run.folder / "result.json").unlink()
    with pytest.raises(ResourceError, match="has come far enough to be reviewed"):
        command.run_to_review(tmp_path / "out")


def test_a_taken_port_is_refused(review, browser):
    port = int(browser.host.rpartition(":")[2])
    with (
        pytest.raises(ResourceError, match=rf"127\.0\.0\.1:{port}: the port is taken"),
        web.running(review, "127.0.0.1", port),
    ):
        pass


def start(tmp_path, *options, **more):
    """Start the command on the past run; return the process and its first four lines."""
    run_to_review.leave(tmp_path / "out", run_to_review.write(tmp_path / "photos"))
    words = [sys.executable, "-m", "imgpipe.pipeline.cli", "review", str(tmp_path / "out")]
    words += ["--port", "0", *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **more)
    assert process.stdout is not None
    return process, [process.stdout.readline() for _ in range(4)]


def test_the_browser_is_not_told_the_token(tmp_path):
    """Other users can see the arguments of a program, but not read a file of mode 600."""
    seen, fake = tmp_path / "seen", tmp_path / "browser"
    script = (f'cp -p "${{1#file://}}" {seen}.html', f'echo "$1" > {seen}')
    fake.write_text("\n".join(("#!/bin/sh", *script, "")))
    fake.chmod(0o755)
    environment = os.environ | {"BROWSER": str(fake), "DISPLAY": ":0", "HOME": str(tmp_path)}
    process, lines = start(tmp_path, env=environment, stderr=subprocess.PIPE)
    address = re.search(r"http://127\.0\.0\.1:\d+/#(\S+)", lines[2])
    assert address, lines
    for _ in range(200):
        if seen.exists() and seen.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143, "only Ctrl-C is the usual end"
    assert address[1] not in seen.read_text()
    assert address[0] in (tmp_path / "seen.html").read_text()
    assert (tmp_path / "seen.html").stat().st_mode & 0o777 == 0o600
    assert not list((tmp_path / "out").glob("runs/*/.tmp-*")), "the file is removed"


def test_the_command_runs_until_ctrl_c(tmp_path):
    process, lines = start(tmp_path, "--no-browser")
    address = re.search(r"http://127\.0\.0\.1:\d+/#\S+", lines[2])
    assert address, lines
    page = Browser(address[0])
    assert page.json("POST", "/review/answers", ACCEPTED)[0] == 200
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "9 images, 2 doubtful labels, 1 mistake, 2 unlike their class" in lines[0]
    assert "1 of 9 images are decided" in rest
    assert "apply the decisions:  imgpipe run --config" in rest
