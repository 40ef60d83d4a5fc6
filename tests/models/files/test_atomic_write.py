"""Tests that a file is replaced as a whole or not at all, also with several writers."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imgpipe.models.files.atomic_write import atomic_write, writing


def test_writes_bytes_and_text_and_makes_the_folder(tmp_path: Path):
    atomic_write(tmp_path / "new" / "bytes", b"\x00\xff")
    atomic_write(tmp_path / "new" / "text", "Ω\n")
    assert (tmp_path / "new" / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "new" / "text").read_bytes() == "Ω\n".encode()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bytes", "text"]


def test_an_error_leaves_the_earlier_content_and_no_other_file(tmp_path: Path):
    target = tmp_path / "file"
    target.write_text("before")
    with pytest.raises(RuntimeError, match="half-way"), writing(target) as beside:
        beside.write_text("aft")
        raise RuntimeError("half-way")
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_symbolic_link_is_kept_and_its_target_replaced(tmp_path: Path):
    (tmp_path / "file").write_text("before")
    (tmp_path / "link").symlink_to("file")
    atomic_write(tmp_path / "link", "after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "after"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=atomic_write, args=(pipe, "through"))
    writer.start()
    assert pipe.read_text() == "through"
    writer.join(timeout=10)
    assert pipe.is_fifo()


@pytest.mark.parametrize(("name", "mode"), [("/dev/stdout", "wb"), ("link", "ab")])
def test_a_redirected_output_is_written_to_after_its_earlier_content(
    tmp_path: Path, name: str, mode: str
):
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from imgpipe.models.files.atomic_write import atomic_write\n"
        "os.write(1, b'before '); atomic_write(Path(sys.argv[1]), 'json '); os.write(1, b'after')\n"
    )
    with (tmp_path / "log").open(mode) as log:
        log.write(b"log ")
        log.flush()
        command = [sys.executable, "-c", program, name]
        subprocess.run(command, stdout=log, cwd=tmp_path, timeout=60, check=True)
    assert (tmp_path / "log").read_text() == "log before json after"


def test_a_folder_in_the_way_is_an_error(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=f"Is a directory: '{tmp_path}/folder'"):
        atomic_write(tmp_path / "folder", "content")


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path):
    target = tmp_path / "file"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=atomic_write, args=(target, c)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert target.read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_and_folder_are_forced_to_disk_around_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The order survives a power loss: first the content, then the rename, then the folder."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        calls.append(kind)
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    atomic_write(tmp_path / "file", "content")
    assert calls == ["file", "rename", "folder"]
