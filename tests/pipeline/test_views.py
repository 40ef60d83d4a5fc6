"""Tests of ``imgpipe views``: which images are drawn, and what is printed about the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.commands import views
from tests.images import class_folders

_SMALL = ["model.image_size=32", "views.count=2"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with three images of each of two classes, a text file and a hidden image."""
    folder = class_folders(
        tmp_path / "photos",
        {
            label: [Image.new("RGB", (50, 40), (40 * i + 20, green, 90)) for i in range(3)]
            for label, green in (("cat", 30), ("dog", 130))
        },
    )
    (folder / "cat" / "notes.txt").write_text("not an image")
    (folder / ".hidden").mkdir()
    Image.new("RGB", (50, 40)).save(folder / ".hidden" / "x.png")
    return folder


def test_one_image_makes_one_row(photos, tmp_path, capfd) -> None:
    out = tmp_path / "sheet.png"
    views.command(str(photos / "cat" / "0.png"), None, _SMALL, out, rows=8)
    assert f"wrote {out}: 1 image, each with 2 augmented views" in capfd.readouterr().out
    one = np.asarray(Image.open(out))
    assert (one == (20, 30, 90)).all(
        axis=-1
    ).sum() >= 3 * 32 * 32 * 0.99  # all of it, because of fill "nearest"
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_folder_gives_images_of_each_class_in_turn_and_names_other_files(
    photos, tmp_path, capfd
) -> None:
    out = tmp_path / "sheet.png"
    views.command(str(photos), "transfer", _SMALL, out, rows=64)
    said = capfd.readouterr().out
    assert "notes.txt: Unknown image file format" in said
    assert "6 images" in said
    shown = [path.relative_to(photos).as_posix() for path in views.spread(photos)]
    assert shown[:4] == ["cat/0.png", "dog/0.png", "cat/1.png", "dog/1.png"]
    assert ".hidden/x.png" not in shown


def test_the_settings_change_the_views(photos, tmp_path, capfd) -> None:
    plain, grey = tmp_path / "plain.png", tmp_path / "grey.png"
    views.command(str(photos / "cat" / "0.png"), None, _SMALL, plain, rows=8)
    views.command(
        str(photos / "cat" / "0.png"), None, [*_SMALL, "views.brightness=0.9"], grey, rows=8
    )
    assert plain.read_bytes() != grey.read_bytes()


@pytest.mark.parametrize(
    ("name", "out", "message"),
    [
        ("nowhere", "a.png", "expected an image or a folder. Received: no such path"),
        ("photos/cat/notes.txt", "a.png", "none of its 1 files is an image"),
        ("empty", "a.png", "expected images in this folder. Received: no file"),
        ("photos", "a.jpg", r"--to .*a.jpg: expected a name that ends in .png"),
        ("photos", "no/a.png", "its folder does not exist"),
    ],
)
def test_wrong_arguments_are_named(photos, tmp_path, name, out, message) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=message):
        views.command(str(tmp_path / name), None, _SMALL, tmp_path / out, rows=8)


def test_a_pixel_bomb_is_not_decoded(photos, tmp_path, capfd) -> None:
    views.command(
        str(photos), None, [*_SMALL, "judge.pixel_limit=100000"], tmp_path / "a.png", rows=1
    )
    Image.new("1", (20_000, 20_000)).save(photos / "cat" / "+bomb.png")
    views.command(str(photos), None, _SMALL, tmp_path / "a.png", rows=2)
    assert "20000 x 20000 pixels are over judge.pixel_limit" in capfd.readouterr().out


def test_the_command_takes_a_source_a_preset_and_settings(photos, tmp_path, capfd) -> None:
    from typer.testing import CliRunner

    from imgpipe.pipeline.application import app

    out = tmp_path / "sheet.png"
    arguments = ["views", str(photos), "transfer", "--to", str(out), "--rows", "1"]
    result = CliRunner().invoke(app, [*arguments, *(x for s in _SMALL for x in ("--set", s))])
    assert result.exit_code == 0, result.output
    assert out.is_file()
