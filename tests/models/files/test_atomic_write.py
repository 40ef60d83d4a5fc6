"""Tests that a file is replaced, and a folder moved, as a whole or not at all."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imgpipe.models.files.atomic_write import atomic_write, move_folder, writing
from tests.folder_renames import refused


def test_writes_bytes_and_text_and_makes_the_folder(tmp_path: Path):
    atomic_write(tmp_path / "new" / "bytes", b"\x00\xff")
    atomic_write(tmp_path / "new" / "text", "Ω\n")
    assert (tmp_path / "new" / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "new" / "text").read_bytes() == "Ω\n".encode()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bytes", "text"]


def test_a_byte_of_a_file_name_that_is_not_utf_8_is_an_escape_that_json_reads(tmp_path: Path):
    name = os.fsdecode(b"\xe9tude \xc3\xa9.jpg")
    atomic_write(tmp_path / "x.json", json.dumps({"path": name}, ensure_ascii=False))
    assert (tmp_path / "x.json").read_bytes() == b'{"path": "\\udce9tude \xc3\xa9.jpg"}'
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {"path": name}


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
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
