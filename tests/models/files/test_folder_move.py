"""Tests that a folder is moved at once, or file by file where folders cannot be renamed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from imgpipe.models.files.atomic_write import move_folder
from tests.folder_renames import refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with files in it and in sub-folders."""
    made = tmp_path / "made"
    for name in ("a", "list", "sub/b", "sub/below/c", "z"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    return made


def _files(folder: Path) -> list[str]:
    """Return the relative paths of the files below a folder, each of which has its own content."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert all((folder / name).read_text() == name for name in names)
    return sorted(names)


def test_a_folder_is_renamed_where_that_is_possible(folder: Path, tmp_path: Path):
    inode = folder.stat().st_ino
    move_folder(folder, tmp_path / "target", last=("list",))
    assert (tmp_path / "target").stat().st_ino == inode
    assert not folder.exists()


def test_elsewhere_the_last_files_come_after_all_others(folder: Path, tmp_path: Path):
    with refused() as moved:
        move_folder(folder, tmp_path / "target", last=("a", "list"))
    assert [path.name for path in moved[2:]] == ["z", "a", "list"]
    assert _files(tmp_path / "target") == ["a", "list", "sub/b", "sub/below/c", "z"]
    assert not folder.exists()


def test_what_is_at_the_target_already_is_kept(folder: Path, tmp_path: Path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/a").write_text("other")
    with refused(), pytest.raises(FileExistsError, match="target"):
        move_folder(folder, tmp_path / "target")
    assert (tmp_path / "target/a").read_text() == "other"
    assert _files(folder) == ["a", "list", "sub/b", "sub/below/c", "z"]


def test_an_incomplete_target_is_removed(folder: Path, tmp_path: Path):
    with refused(files=3), pytest.raises(OSError, match="No space left"):
        move_folder(folder, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_another_error_of_the_file_system_is_raised(folder: Path, tmp_path: Path):
    with refused(errno.EROFS), pytest.raises(OSError, match="Read-only") as raised:
        move_folder(folder, tmp_path / "target")
    assert raised.value.errno == errno.EROFS
    assert not (tmp_path / "target").exists()
