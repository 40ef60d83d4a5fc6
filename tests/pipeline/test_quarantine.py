"""Tests of `imgpipe quarantine`: how it is found, and what it lists."""

import shutil

import pytest

from imgpipe.components.common.image_row import ImageFinding, ImageRow
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.commands import quarantine
from tests.command import answered, ran
from tests.pipeline.past_runs import leave, leave_quarantine

ROWS = [
    ("cat/blurred.jpg", "blurry", "sharpness 0.10, under 0.29"),
    ("cat/copy.jpg", "duplicate", "same bytes as cat/one.jpg"),
    ("dog/gone.jpg", "unreadable", "No such file"),
]


def write(folder, rows=ROWS):
    rejected = [ImageRow(path, findings=(ImageFinding(*found),)) for path, *found in rows]
    leave_quarantine(folder, rejected)
    return folder


@pytest.fixture
def out(tmp_path):
    """Return an output folder with two runs, of which the newer one has `ROWS` in quarantine."""
    for number, rows in ((1, ROWS[:1]), (2, ROWS)):
        path = f"artifacts/ImageFilter/quarantine/{number}"
        write(tmp_path / "out" / path, rows)
        artifacts = {"ImageFilter": {"quarantine": path}}
        leave(tmp_path / "out", f"2026010{number}-000000", version=number, artifacts=artifacts)
    return tmp_path / "out"


def test_the_quarantine_of_a_run_is_found_from_any_folder(out, tmp_path):
    moved = out.rename(tmp_path / "moved")  # the recorded folders are the former ones
    places = {"": 2, "model": 2, "model/2": 2, "model/1": 1, "runs/20260101-000000": 1}
    (moved / "model").mkdir()
    for place, number in places.items():
        assert (
            quarantine.quarantine_folder(moved / place)
            == moved / f"artifacts/ImageFilter/quarantine/{number}"
        )
    newest = moved / "artifacts/ImageFilter/quarantine/2"
    assert quarantine.quarantine_folder(newest) == newest
    on_cluster = tmp_path / "cluster/runs/id"
    inside = write(on_cluster / "artifacts/ImageFilter/quarantine/7")
    assert quarantine.quarantine_folder(on_cluster) == inside
    shutil.rmtree(newest)
    with pytest.raises(ResourceError, match="has no quarantine: it made none, or it was removed"):
        quarantine.quarantine_folder(moved / "model/2")


def test_list_shows_reasons_and_paths(out):
    text = ran("quarantine", "list", "--out", out).stdout
    assert "blurry  1" in text and "cat/blurred.jpg  sharpness 0.10" in text
    assert "3 files rejected in" in text
    rows = answered("quarantine list", "--out", out)
    assert [row["path"] for row in rows] == sorted(path for path, *_ in ROWS)


def test_control_characters_in_names_are_escaped_on_the_terminal(tmp_path):
    name = "a/\x1b]0;title\x07\n1 rejected files :x: [bold]\u202e\udcffgpj.jpg"
    place = write(tmp_path / "q", [(name, "blurry", "\x1b[2J")])
    shown = ran("quarantine", "list", "--out", place).stdout
    assert r"a/\x1b]0;title\x07\n1 rejected files :x: [bold]\u202e\udcffgpj.jpg  \x1b[2J" in shown
    assert "\x1b" not in shown and len(shown.splitlines()) == 3


@pytest.mark.parametrize("content", [b"", b"{}", b"ARROW1\0\0" + bytes(64)])
def test_a_damaged_or_missing_table_is_named(tmp_path, content):
    place = write(tmp_path / "q")
    [file] = place.glob("*/images-00000-of-00001.arrow")
    file.write_bytes(content or file.read_bytes()[:-20])
    with pytest.raises(ResourceError, match=r"images-00000-of-00001\.arrow is damaged"):
        ran("quarantine", "list", "--out", place)
    file.unlink()
    with pytest.raises(ResourceError, match=r"has no table of images .* Run the pipeline again"):
        ran("quarantine", "list", "--out", place)


def test_warnings_about_kept_files_are_listed(tmp_path):
    warning = ImageFinding("dark", "almost black", "warn")
    rows = [ImageRow("a/dark.jpg", findings=(warning,)), ImageRow("a/x.jpg")]
    leave_quarantine(tmp_path / "q", rows)
    text = ran("quarantine", "list", "--out", tmp_path / "q", "--warnings").stdout
    assert "a/dark.jpg  almost black" in text and "1 file with a warning in" in text
