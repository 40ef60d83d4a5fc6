"""Records as the checks see them: read, decoded and measured as ingest does it."""

from __future__ import annotations

import pytest

from imgpipe.components.example_gen.sources.base import Item
from imgpipe.components.image_file.inspection import read_files, to_example
from imgpipe.components.image_filter.beam_driver import to_record


class Memory:
    """A source of bytes by path."""

    def __init__(self, files):
        self.files = files

    def read(self, item):
        return self.files[item.path]


@pytest.fixture
def records():
    """A function {path: bytes} → {path: record}, all labelled "a" of the classes a and b."""

    def make(files, store=""):
        items = [Item(path, "a") for path in files]
        read = read_files(Memory(files), items, 100_000_000, store)
        return {r.item.path: to_record(to_example(r, "train", ("a", "b"))) for r in read}

    return make
