"""Tests that only regular files are read, up to a limit, and only JSON objects from JSON files."""

import hashlib
import os
import tracemalloc
from pathlib import Path

import pytest

from imgpipe.models.files import json_object
from imgpipe.models.files.regular_files import open_regular, read_bytes, sha256


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
def test_anything_but_a_json_object_is_a_value_error(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        json_object.read(tmp_path / "x.json")
