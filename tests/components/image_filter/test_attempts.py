"""Several attempts at one shard, as a cluster makes them when it believes that a worker is dead."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from imgpipe.components.image_filter import quarantine
from imgpipe.components.image_record import ImageRecord
from imgpipe.components.storage.records import write_bytes

SIZE = 200_000


def readers_see_whole_files(write, path: Path) -> None:
    """Run six attempts, and read what is there meanwhile."""
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
    return b"x" * SIZE


def test_parts_of_the_first_pass(tmp_path, content):
    path = tmp_path / "train-0.decisions"
    readers_see_whole_files(lambda: write_bytes(str(path), content), path)


def test_rejected_files(tmp_path, content):
    record = ImageRecord(path="cat/a.jpg", image_hash="0" * 64, image_bytes=content)
    stored = quarantine.store(str(tmp_path), record, "blurry")
    path = tmp_path / stored
    readers_see_whole_files(lambda: quarantine.store(str(tmp_path), record, "blurry"), path)
