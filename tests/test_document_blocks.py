"""Runs the code blocks of the documents, and compares their output with the one quoted below them.

All pages that need a run of the pipeline share the run of the tutorial.
"""

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgpipe.models import preprocess
from imgpipe.pipeline.demo import LABELS, draw, draw_hand
from tests import json_formats, python_program
from tests.command import command_of
from tests.document_blocks import (
    DOCS,
    DOCUMENTS,
    RUN,
    Block,
    blocks,
    in_a_browser,
    matches,
    name_of,
)
from tests.images import encoded, exif, noise

_TUTORIAL = DOCS / "tutorial.md"
_TIMEOUT_S = 900
#: Commands that run until they are interrupted, with the options for a test.
_UNTIL_STOPPED = {
    "imgpipe review OUT": "--no-browser --port 0",
    "imgpipe serve TRIAL/runs/*": "--port 0",
}
#: The search time of the tutorial, so that its results are reused and no page searches longer.
_MINUTES = "--minutes 1"
_BEST = {"JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}}


def _to_run(page: Path) -> list[tuple[Block, str]]:
    """Return the blocks of a page that are run, each with the output quoted below it, or ""."""
    found = blocks(page)
    after = [one.text if one.language == "text" else "" for one in found[1:]]
    return [
        (one, text)
        for one, text in itertools.zip_longest(found, after, fillvalue="")
        if isinstance(one, Block) and one.language in RUN and not one.why and not one.title
    ]


RUNNABLE = [page for page in DOCUMENTS if _to_run(page)]


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_command_can_be_parsed(page: Path) -> None:
    """The commands have valid options and arguments, also in blocks that are not run."""
    for block in blocks(page):
        if block.language in RUN and block.language != "python":
            for line in block.commands:
                _parse(line, f"{name_of(page)}:{block.line}")


def _parse(line: str, where: str) -> None:
    """Check that a command line of imgpipe can be parsed; other programs are not checked."""
    words = shlex.split(line.split(" | ")[0].split(" || ")[0].split(" > ")[0])
    if words[:2] == ["docker", "run"] and "imgpipe" in words:  # the name of the image
        words = words[words.index("imgpipe") :]
    if words[:1] != ["imgpipe"] or words[-1] in ("--help", "--version"):
        return
    try:
        command, words = command_of(shlex.join(words))
        command.make_context("imgpipe", words, resilient_parsing=False)
    except Exception as error:
        message = getattr(error, "message", error)
        raise AssertionError(f"{where}: {line}: {message}") from error


_SHOWN = [block for page in (DOCS / "how-to").glob("*.md") for block in blocks(page)]
#: The files that the how-to pages show, by name.
_FILES = {block.title: block.text for block in _SHOWN if block.title}


def test_the_documents_resize_as_the_served_model_does() -> None:
    names: dict[str, Any] = {}
    exec(_FILES["model_pixels.py"], names)
    for shape in ((3, 5, 3), (480, 640, 3), (37, 999, 3), (224, 224, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        expected = preprocess.resize(pixels, 224).numpy()
        np.testing.assert_allclose(names["resize"](pixels, 224), expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_documents_turn_a_photograph_as_the_served_model_does(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    names: dict[str, Any] = {}
    exec(_FILES["model_pixels.py"], names)
    smooth = Image.fromarray(noise(orientation, (5, 4))).resize((150, 90))
    photo = tmp_path / "photo"
    photo.write_bytes(encoded(smooth, kind, exif=exif(orientation), **_BEST[kind]))
    expected = preprocess.decode(photo.read_bytes(), 24).numpy()
    found = names["model_pixels"](photo, 24)
    assert np.abs(found - expected).mean() < 1.5, "Pillow decodes JPEG a little differently"


def test_the_documents_resize_in_a_browser_as_the_served_model_does(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    code = next(one.text for one in _SHOWN if "async function modelPixels" in one.text)
    call = "console.log(JSON.stringify([...(await modelPixels(null, 24))]));"
    function = code[: code.index("const model =")]
    for height, width in ((3, 5), (48, 64), (37, 99)):
        pixels = noise(width, (width, height))
        (tmp_path / "page.mjs").write_text(in_a_browser(f"{function}\n{call}", pixels))
        done = python_program.ran("node", tmp_path / "page.mjs")
        expected = preprocess.resize(pixels, 24).numpy()
        received = np.array(json.loads(done.stdout)).reshape(24, 24, 3)
        assert np.abs(received - expected).max() <= 0.51


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the pages use: images in PHOTOS, NEW and OTHER, and picture.jpg."""
    root = tmp_path_factory.mktemp("documents")
    draw(root / "PHOTOS", per_class=50, size=160)
    for label in LABELS:
        (root / "NEW" / label).mkdir(parents=True)
        for seed in range(6):
            draw_hand(label, 5000 + seed, 160).save(root / "NEW" / label / f"new-{seed}.jpg")
    (root / "OTHER").mkdir()
    for seed in range(12):
        image = draw_hand("rock", 7000 + seed, 160)
        image.transpose(1).convert("L").save(root / "OTHER" / f"other-{seed}.jpg")
    stored = draw_hand("paper", 987_654, 200).transpose(Image.Transpose.ROTATE_90)
    stored.save(root / "picture.jpg", quality=90, exif=exif(6))  # as a phone writes it
    for name, text in _FILES.items():
        (root / name).write_text(text, "utf-8")
    return root


@pytest.fixture(scope="session")
def after_the_tutorial(workspace: Path) -> tuple[Path, list[tuple[Block, str, str]]]:
    """Run the tutorial; return its folder, and each block with its quoted and its real output."""
    return workspace, list(_run(_TUTORIAL, workspace))


def _run(page: Path, folder: Path) -> Iterator[tuple[Block, str, str]]:
    """Run the blocks of a page in `folder`; yield each with its quoted and its real output."""
    for block, quoted in _to_run(page):
        if block.language == "python":
            command = [sys.executable, "-W", "ignore", "-c", block.text]
        else:
            command = ["bash", "-c", _shell(block)]
        done = subprocess.run(
            command,
            cwd=folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
        where = f"{name_of(page)}:{block.line}"
        assert done.returncode == 0, f"{where}: {done.stdout[-3000:]}"
        yield block, quoted, done.stdout


def _shell(block: Block) -> str:
    """Return the shell script of a block.

    A command fails if its exit code is not the one that the block names. Where none is named, 0 and
    3 (not blessed) are accepted.
    """
    lines = []
    for line, code in block.expected:
        if line in _UNTIL_STOPPED:
            line = f"timeout --signal=INT 40 {line} {_UNTIL_STOPPED[line]} || [ $? = 124 ]"
        if line.startswith("imgpipe run ") and "--minutes" not in line:
            line = f"{line} {_MINUTES}"
        if code:
            lines.append(f"{line}; [ $? = {code} ] || exit 1")
        else:
            lines.append(f"{line} || [ $? = 3 ] || exit 1")
    return "\n".join(lines)


def _environment() -> dict[str, str]:
    """Return the environment of the blocks, in which the programs of this Python come first."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": programs, "COLUMNS": "300", "TF_CPP_MIN_LOG_LEVEL": "2"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_runs_and_prints_what_it_quotes(
    after_the_tutorial: tuple[Path, list[tuple[Block, str, str]]],
) -> None:
    folder, printed_blocks = after_the_tutorial
    for block, quoted, printed in printed_blocks:
        assert matches(quoted, printed), f"line {block.line} prints:\n{printed}"
    found = sorted(folder.glob("OUT/runs/*/result.json"))
    assert len(found) > 1
    for file in found:
        json_formats.conform("run", json.loads(file.read_text("utf-8")))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [page for page in RUNNABLE if page != _TUTORIAL], ids=name_of)
def test_the_blocks_of_a_page_run_and_print_what_it_quotes(
    page: Path, after_the_tutorial: tuple[Path, list[tuple[Block, str, str]]], tmp_path: Path
) -> None:
    folder = tmp_path / "page"
    shutil.copytree(after_the_tutorial[0], folder, symlinks=True)
    for block, quoted, printed in _run(page, folder):
        assert matches(quoted, printed), f"{name_of(page)}:{block.line} prints:\n{printed}"
