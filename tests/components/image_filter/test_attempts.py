"""Several workers write one shard at the same time.

A cluster starts such attempts when it believes that a worker is dead.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter import quarantine
from imgpipe.components.image_filter.judge.check import ImageFinding
from imgpipe.components.image_filter.judge.image_row import ImageRow

SIZE = 200_000


def readers_see_whole_files(write, path: Path) -> None:
    """Write a file by six threads while another reads it, and assert that it is always whole."""
    sizes = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            if path.exists():
                sizes.add(len(path.read_bytes()))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=lambda: [write() for _ in range(40)]) for _ in range(6)]
    reader.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert sizes == {SIZE}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.fixture
def content() -> bytes:
    """Return the bytes that every attempt writes."""
    return b"x" * SIZE


def test_concurrent_writers_of_rejected_files_leave_whole_files(tmp_path, content):
    record = ImageRecord(path="cat/a.jpg", image_hash="0" * 64, image_bytes=content)
    row = ImageRow.of(record, findings=(ImageFinding("blurry", "no sharp edge"),))
    stored = quarantine.stored_name(row)
    assert stored == "blurry/0000000000000000-a.jpg"
    readers_see_whole_files(
        lambda: quarantine.store(str(tmp_path), stored, record), tmp_path / stored
    )
