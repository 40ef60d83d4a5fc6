"""Checks that the messages quoted in docs/troubleshooting.md are those that the program prints."""

import shlex
from pathlib import Path

import pytest

from imgpipe.pipeline.demo import draw_hand
from tests import command
from tests.conftest import REPOSITORY
from tests.document_blocks import Block, blocks, matches
from tests.images import save

QUOTED = [
    block
    for block in blocks(REPOSITORY / "docs" / "troubleshooting.md")
    if block.text.startswith("$ ")
]
assert QUOTED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the images that the page names, and configurations with one mistake each."""
    root = tmp_path_factory.mktemp("troubles")
    images = [draw_hand("rock", seed, 96) for seed in range(5)]
    for name, image in zip(("a/1", "a/2", "b/1", "b/2", "b/3"), images, strict=True):
        save(image, root / "three" / f"{name}.png")
    save(images[0], root / "three" / "a" / "3.png")
    save(images[1], root / "one" / "cat" / "1.png")
    (root / "one" / "dog").mkdir()
    for name in ("berlin/cat", "berlin/dog", "rome/cat", "rome/dog"):
        for number in range(6):
            save(images[0], root / "cities" / name / f"{number}.png")
    for name in ("flat/1.png", "flat/2.png", "PHOTOS/rock/1.png", "PHOTOS/paper/1.png"):
        save(images[1], root / name)
    save(images[2], root / "picture.jpg")
    (root / "labels.csv").write_text("id,breed,sex\n1,cat,m\n2,dog,m\n")
    (root / "typo.toml").write_text("[evaluate]\ntreshold = 0.9\n")
    return root


@pytest.mark.parametrize("block", QUOTED, ids=lambda block: block.commands[0])
def test_the_program_prints_what_the_page_quotes(
    block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    line, _, quoted = block.text.removeprefix("$ ").partition("\n")
    ended = command.imgpipe(*shlex.split(line)[1:], cwd=folder)
    assert matches(quoted, ended.stdout + ended.stderr), ended
