"""The samples and pictures of README and tutorial are what the commands print and show.

The first command of the README runs here in a process of its own, and so does the run of
photographs whose end the README quotes. With `IMGPIPE_RENEW_SAMPLES=1`, the sample and the pictures
are written anew:

    IMGPIPE_RENEW_SAMPLES=1 .venv/bin/pytest -m slow tests/e2e/test_samples.py
"""

import os
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from imgpipe.pipeline.demo import draw_hand
from imgpipe.serving.server.server import ModelServer
from tests import browser, python_program
from tests.conftest import REPOSITORY
from tests.serving.quick import quick

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

_RENEW = bool(os.environ.get("IMGPIPE_RENEW_SAMPLES"))
_README = REPOSITORY / "README.md"
_IMAGES = REPOSITORY / "docs" / "images"
#: The block of the README that quotes the end of a run.
_SAMPLE = re.compile(r"(<!-- sample of a run -->\n```text\n)(.*?)(```)", flags=re.S)
_LONGEST = 112  # characters of a line of the sample; what follows is left out
_RUN = "20260131-140559"  # stands for the name of the run, which is its time
_TOOK = re.compile(r" · time to this page [^·]*(?= ·)")  # left out: it is that of the machine
_TIME = re.compile(r"\b\d+(?:\.\d+)? (?:s|min|minutes|MB)\b")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
#: What there is to review: the most doubtful label has a probability near the limit, and may be
#: a doubtful label on one machine and the surest mistake on another.
_DOUBTS = re.compile(r"^.*:(?=  +imgpipe review)", flags=re.M)
#: By how much a share may differ on a machine with other instructions.
_TOLERANCE = 0.01
_SIZES = 0.05  # share by which the size of a picture may differ, with other fonts


def _imgpipe(folder: Path, *words: str) -> str:
    """Run a command in a folder, and return what it prints; it ends with exit code 0."""
    program = (sys.executable, "-m", "imgpipe.pipeline.cli")
    return python_program.ran(*program, *words, cwd=folder, seconds=1500, COLUMNS="300").stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the demo; return its output folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    return folder, _imgpipe(folder.parent, "demo", "--out", str(folder))


def test_the_demo_publishes_a_model_and_classifies_a_new_image(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    assert "classified a new image of paper over gRPC: paper" in printed
    look, mend, use, own = printed.splitlines()[-4:]
    (run,) = (folder / "run/runs").iterdir()
    assert look.endswith(f" imgpipe open {run}")
    assert mend.endswith(f" imgpipe review {run}")
    assert use.endswith(f" imgpipe serve {folder}/run")
    assert own.endswith(" imgpipe check PHOTOS")
    assert printed.count("imgpipe serve") == 1
    assert (folder / "run/model/1/saved_model.pb").exists()


@browser.needed
def test_the_picture_of_the_report_is_what_the_report_shows(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    (report,) = (demo[0] / "run").glob("runs/*/report.html")
    with browser.chromium(tmp_path) as page:
        page.look(1100, 800)
        page.open(report.as_uri())
        page.picture("#by_class", "#gallery", tmp_path / "report.png")
    _compare(tmp_path / "report.png")


@browser.needed
def test_the_picture_of_the_web_page_is_what_the_page_shows(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    hand = tmp_path / "hand.jpg"
    draw_hand("paper", 987_654, 400).save(hand)
    settings = quick(rest_api_port=-1, web_page=True)
    with ModelServer("imgpipe", demo[0] / "run" / "model", settings) as server:
        server.wait_until_available(300)
        with browser.chromium(tmp_path) as page:
            page.look(1000, 700)
            page.open(server.rest_target + "/")
            page.wait("document.querySelector('#knows').innerText")
            page.choose("#file", hand)
            page.wait("document.querySelector('.classes li')", 60)
            page.run("document.querySelector('#heat-on').click()")
            page.wait("!document.querySelector('#heat').hidden", 60)
            page.picture("header", "#tools", tmp_path / "web-page.png")
    _compare(tmp_path / "web-page.png")


def _compare(drawn: Path) -> None:
    """Compare a picture with the one of the same name in the documents, or replace that one."""
    kept = _IMAGES / drawn.name
    with Image.open(drawn) as picture:
        if _RENEW:
            picture.convert("RGB").quantize(256).save(kept, optimize=True)
        with Image.open(kept) as old:
            for new_side, old_side in zip(picture.size, old.size, strict=True):
                assert new_side == pytest.approx(old_side, rel=_SIZES), f"renew {kept.name}"


def test_the_sample_of_the_readme_is_what_a_run_prints(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "PHOTOS").symlink_to(shared_data / "cats_dogs")
    printed = _imgpipe(tmp_path, "run", "PHOTOS", "--out", "OUT")
    sample = _end_of(printed, tmp_path)
    text = _README.read_text("utf-8")
    if _RENEW:
        text = _SAMPLE.sub(lambda found: found[1] + sample + found[3], text)
        _README.write_text(text, "utf-8")
    quoted = _SAMPLE.search(text)
    assert quoted is not None
    assert _without_numbers(quoted[2]) == _without_numbers(sample)
    assert _numbers(quoted[2]) == pytest.approx(_numbers(sample), abs=_TOLERANCE, rel=_TOLERANCE)


def _end_of(printed: str, folder: Path) -> str:
    """Return the end of a run, from its verdict on, without paths of this machine."""
    plain = printed.replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "")
    plain = _TOOK.sub("", re.sub(r"\b20\d{6}-\d{6}\b", _RUN, plain))
    lines = [line.rstrip() for line in plain.splitlines()]
    first = next(number for number, line in enumerate(lines) if line.startswith("blessed"))
    return "".join(f"{_cut(line)}\n" for line in lines[first:])


def _cut(line: str) -> str:
    """Return a line of the sample, cut between two words if it is long."""
    if len(line) <= _LONGEST:
        return line
    return line[: line.rindex(" ", 0, _LONGEST - 1)] + " …"


def _without_numbers(text: str) -> list[str]:
    """Return the lines with one space between words, and each number as 0."""
    text = _DOUBTS.sub("what to review:", text)
    return [_NUMBER.sub("0", " ".join(line.split())) for line in text.splitlines()]


def _numbers(text: str) -> list[float]:
    """Return the numbers but the times and sizes on disk, which differ from run to run."""
    without_times = _TIME.sub("", _DOUBTS.sub("", text))
    return [float(one.replace(",", "")) for one in _NUMBER.findall(without_times)]
