"""The web page over HTTP: its files and headers; other paths do not change."""

import re
from pathlib import Path

import pytest

from imgpipe.models.errors import ResourceError
from imgpipe.models.export.saved_model import write_warmup
from imgpipe.models.files.image_limits import BODY_LIMIT
from imgpipe.pipeline.published.copies import example_images
from imgpipe.serving.server.rest.port import host_to_open
from imgpipe.serving.server.server import ModelServer
from imgpipe.serving.server.web import pages
from tests.serving.quick import quick

_NOTHING_AT = b"There is nothing at /"
FOLDER = Path(pages.__file__).parent
SCRIPTS = sorted(f"/web/{file.name}" for file in FOLDER.glob("*.js"))
STYLES = dict.fromkeys(("/web/page.css", "/web/style.css"), "text/css")
FILES = {"/": "text/html"} | STYLES | dict.fromkeys(SCRIPTS, "text/javascript")


@pytest.fixture
def page(serve):
    return serve(web_page=True)


def test_every_file_of_the_page_has_a_strict_security_policy(page):
    for path, media_type in FILES.items():
        answer = page.get(path)
        assert answer.status == 200 and answer.body, path
        headers = answer.headers
        assert headers["content-type"] == f"{media_type}; charset=utf-8"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        policy = dict(
            part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
        )
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' blob: data:",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        head = page.ask("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(answer.body))
        for verb in ("POST", "PUT", "DELETE", "OPTIONS"):
            refused = page.ask(verb, path, b"")
            assert refused.status == 404 and _NOTHING_AT in refused.body, (verb, path)


def test_allowed_examples_are_shown_and_a_notice_stands_in_the_head_as_text(serve):
    given = {"examples": (b"first", b"second"), "notice": "not blessed: 0.8 < 0.9"}
    allowed = serve(web_page=True, **given)
    page = allowed.get("/").body.decode()
    head = page[page.index("<header>") : page.index("</header>")]
    assert '<p class="alert notice" role="note">not blessed: 0.8 &lt; 0.9</p>' in head
    assert re.findall(r'<img src="(web/examples/.*?)" alt="(.*?)">', page) == [
        ("web/examples/1", "Example 1"),
        ("web/examples/2", "Example 2"),
    ]
    image = allowed.get("/web/examples/2")
    assert (image.status, image.body) == (200, b"second")
    assert image.headers["content-type"] == "image/jpeg"
    assert image.headers["cross-origin-resource-policy"] == "same-origin"
    for other in ("0", "3", "-1", "x", "..%2f0"):
        assert allowed.get(f"/web/examples/{other}").status == 404


def test_no_example_and_no_notice_is_shown_unless_the_settings_say_so(page):
    told = page.get("/").body.decode()
    assert not re.search('web/examples|notice|role="note"', told)
    assert page.get("/web/examples/1").status == 404


def test_the_page_knows_the_largest_body_that_the_server_takes():
    script = (FOLDER / "server.js").read_text()
    assert f"const MOST_BYTES = (({BODY_LIMIT >> 20} << 20) * 3) / 4 - 1024;" in script


def test_other_files_of_the_package_cannot_be_read(page):
    for path in ("/web", "/web/", "/web/pages.py", "/web/index.html", "/web/../pages.py"):
        refused = page.get(path)
        assert refused.status == 404 and _NOTHING_AT in refused.body, path


def test_the_page_refers_to_its_own_files_only():
    html = (FOLDER / "index.html").read_text()
    named = set(re.findall(r'(?:src|href)="([^"]*)"', html))
    assert named == {"data:,", "web/style.css", "web/page.css", "web/page.js"}
    assert not re.search(r"\son\w+=|\sstyle=|<script(?![^>]*src)", html), "the policy forbids it"
    for script in FOLDER.glob("*.js"):
        text = script.read_text()
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|https?://", text)
        for module in re.findall(r'from "(.*)";', text):
            assert f"/web/{module.removeprefix('./')}" in SCRIPTS


def test_examples_are_images_that_the_model_holds(tmp_path):
    write_warmup("any", [b"1", b"2", b"3", b"4"], str(tmp_path / "model"))
    assert example_images(tmp_path / "model") == (b"1", b"2", b"3")
    with pytest.raises(ResourceError, match=r"holds no validation images.* Leave out --examples"):
        example_images(tmp_path)


@pytest.mark.parametrize(
    ("host", "named"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("[::]", "[::1]"), ("10.0.0.7", "10.0.0.7")],
)
def test_the_page_is_opened_at_an_address_that_the_server_answers(tmp_path, host, named):
    server = ModelServer("m", tmp_path, quick(host=host, rest_api_port=-1))
    assert server.rest_target.startswith(f"http://{named}:")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_phone_is_told_an_address_of_this_machine(host):
    assert host_to_open(host, by_others=True) not in ("0.0.0.0", "[::]", "127.0.0.1", "[::1]")
    assert host_to_open("10.0.0.7", by_others=True) == "10.0.0.7"
