"""Records as the checks see them: read, decoded and measured as ingest does it."""

from __future__ import annotations

import pytest

from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.components.example_gen.splits import SplitRule


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
        items = [Item(path, "a", "train") for path in files]
        rule = SplitRule(given=("train", "validation"))
        read = inspect(Memory(files), items, 100_000_000, store, rule, ("a", "b"))
        return {record.path: record for record in read}

    return make
