"""Fixtures for the tests of the filter: records as the checks see them, and a filter on Beam."""

import pytest

from imgpipe.components.common.splits import SplitRule
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources.images import Item
from tests.components.filtered import Memory, Run


@pytest.fixture
def records():
    """Return a function that inspects files of label "a": {path: bytes} → {path: record}."""

    def make(files, store=""):
        items = [Item(path, "a", "train") for path in files]
        rule = SplitRule(given=("train", "validation"))
        read = inspect(Memory(files), items, 100_000_000, store, rule, ("a", "b"))
        return {record.path: record for record in read}

    return make


@pytest.fixture
def run(tmp_path):
    """Return a function that ingests and filters a folder; its options are those of `Run`."""

    def make(photos, name="run", **options):
        return Run(tmp_path / name, photos, **options)

    return make
