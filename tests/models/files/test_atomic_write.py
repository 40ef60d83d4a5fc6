"""Files are replaced as a whole, and read only if they are regular and not too large."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write, move_folder, writing
from imgpipe.models.files.regular_files import open_regular, read_bytes, sha256
from tests.folder_renames import refused


def test_writes_bytes_and_text_and_makes_the_folder(tmp_path):
    atomic_write(tmp_path / "new" / "bytes", b"\x00\xff")
    atomic_write(tmp_path / "new" / "text", "Ω\n")
    assert (tmp_path / "new" / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "new" / "text").read_bytes() == "Ω\n".encode()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bytes", "text"]


def test_a_byte_of_a_file_name_that_is_not_utf_8_is_an_escape_that_json_reads(tmp_path):
    name = os.fsdecode(b"\xe9tude \xc3\xa9.jpg")
    atomic_write(tmp_path / "x.json", json.dumps({"path": name}, ensure_ascii=False))
    assert (tmp_path / "x.json").read_bytes() == b'{"path": "\\udce9tude \xc3\xa9.jpg"}'
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {"path": name}


def test_an_error_leaves_the_earlier_content_and_no_other_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")
    with pytest.raises(RuntimeError, match="half-way"), writing(target) as beside:
        beside.write_text("aft")
        raise RuntimeError("half-way")
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_symbolic_link_is_kept_and_its_target_replaced(tmp_path):
    (tmp_path / "file").write_text("before")
    (tmp_path / "link").symlink_to("file")
    atomic_write(tmp_path / "link", "after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "after"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=atomic_write, args=(pipe, "through"))
    writer.start()
    assert pipe.read_text() == "through"
    writer.join(timeout=10)
    assert pipe.is_fifo()


@pytest.mark.parametrize(("name", "mode"), [("/dev/stdout", "wb"), ("link", "ab")])
def test_a_redirected_output_is_written_to_after_its_earlier_content(tmp_path, name, mode):
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


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
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


def test_a_folder_is_renamed_where_that_is_possible(folder, tmp_path):
    inode = folder.stat().st_ino
    move_folder(folder, tmp_path / "target", last=("list",))
    assert (tmp_path / "target").stat().st_ino == inode
    assert not folder.exists()


def test_what_is_at_the_target_already_is_kept(folder, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/a").write_text("other")
    with refused(), pytest.raises(FileExistsError, match="target"):
        move_folder(folder, tmp_path / "target")
    assert (tmp_path / "target/a").read_text() == "other"
    assert _files(folder) == ["a", "list", "sub/b", "sub/below/c", "z"]


def test_an_incomplete_target_is_removed(folder, tmp_path):
    with refused(files=3), pytest.raises(OSError, match="No space left"):
        move_folder(folder, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_another_error_of_the_file_system_is_raised(folder, tmp_path):
    with refused(errno.EROFS), pytest.raises(OSError, match="Read-only") as raised:
        move_folder(folder, tmp_path / "target")
    assert raised.value.errno == errno.EROFS
    assert not (tmp_path / "target").exists()


def test_reading_a_file_takes_no_more_memory_than_its_size(tmp_path):
    (tmp_path / "x").write_bytes(b"content")
    tracemalloc.start()
    assert read_bytes(tmp_path / "x", 1 << 32) == b"content"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 << 20
    assert sha256(tmp_path / "x", 7) == hashlib.sha256(b"content").hexdigest()


def test_a_file_of_reported_size_0_is_read_up_to_the_limit():
    place = Path("/proc/self/status")
    assert place.stat().st_size == 0 and b"Name:" in read_bytes(place, 1 << 20)
    with pytest.raises(OSError, match="over the limit of 0 MiB"):
        read_bytes(place, 10)


@pytest.mark.parametrize("reader", [read_bytes, sha256])
def test_a_file_of_exactly_the_limit_is_read_and_a_larger_one_refused(tmp_path, reader):
    (tmp_path / "x").write_bytes(b"12345678")
    assert reader(tmp_path / "x", 8)
    with pytest.raises(OSError, match="0 MiB are over the limit of 0 MiB"):
        reader(tmp_path / "x", 7)


def test_everything_but_a_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place, message in (
        (tmp_path / "pipe", "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "a\0b", "no file can have this path"),
        (tmp_path / "a\ud800", "no file can have this path"),
    ):
        with pytest.raises(OSError, match=message):
            open_regular(place)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Expecting value"),
        (b"[1]", "expected a JSON object, received list"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b"\xff{}", "can't decode byte"),
        (b'{"a": ' + b"9" * 5000 + b"}", "integer string conversion"),
    ],
)
def test_anything_but_a_json_object_is_a_value_error(tmp_path, content, words):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        json_object.read(tmp_path / "x.json")
