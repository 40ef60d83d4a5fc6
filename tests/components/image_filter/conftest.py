"""Fixtures for the tests of the filter: records as the checks see them, and a filter on Beam."""

from __future__ import annotations

import json

import pytest

from imgpipe.components.common.splits import SplitRule
from imgpipe.components.common.storage.records import read_examples, shard_files, text
from imgpipe.components.example_gen.image_example_gen import ingest
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.settings import ReadPlan, SourceOptions
from imgpipe.components.example_gen.sources import open_source
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.components.image_filter import quarantine
from imgpipe.components.image_filter.image_filter import Uris, filter_examples
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.settings import FilterPlan
from imgpipe.models import names
from tests.components.memory_source import Memory


@pytest.fixture
def records():
    """Return a function that inspects files {path: bytes} and returns the records by path.

    All files are in the split train and have the label "a" of the classes a and b.
    """

    def make(files, store=""):
        items = [Item(path, "a", "train") for path in files]
        rule = SplitRule(given=("train", "validation"))
        read = inspect(Memory(files), items, 100_000_000, store, rule, ("a", "b"))
        return {record.path: record for record in read}

    return make


class Run:
    """Ingest and filter one folder on Beam.

    `plan` has fields of `FilterPlan`. `summary` is the summary of the filter, and `rejects` are the
    entries of the quarantine by path.
    """

    def __init__(self, root, photos, beam_pipeline, rule=None, shard_size=256, flags=(), **plan):
        scan = open_source(str(photos)).scan()
        rule = rule or SplitRule()
        root.mkdir(exist_ok=True)
        file = root / "overrides.toml"
        file.write_text(overrides.to_toml(plan.get("overrides", ())), encoding="utf-8")
        plan["overrides"] = overrides.decisions(file, scan.vocabulary)
        reading = ReadPlan(
            options=SourceOptions(source=str(photos)),
            vocabulary=scan.vocabulary,
            rule=rule,
            shard_size=shard_size,
        )
        ingest(beam_pipeline(), f"{root}/examples", reading)
        uris = Uris(*(f"{root}/{name}" for name in ("examples", "kept", "metadata", "q")))
        self.root = root
        self.summary = filter_examples(
            beam_pipeline(*flags), uris, FilterPlan(vocabulary=scan.vocabulary, **plan)
        )
        assert not list((root / "q").glob(".*")), "nothing of the first pass is left"
        lines = (root / "q" / quarantine.MANIFEST).read_text().splitlines()
        self.rejects = {reject["path"]: reject for reject in map(json.loads, lines)}

    def records(self, kind):
        """Return the Examples of an artifact, which is "kept" or "metadata"."""
        found = []
        for split in names.SPLITS:
            for path in shard_files(f"{self.root}/{kind}", split):
                found += read_examples(path)
        return found

    def paths(self):
        """Return the paths of the kept images."""
        return [text(example, names.PATH) for example in self.records("kept")]


@pytest.fixture
def run(tmp_path, beam_pipeline):
    """Return a function that ingests and filters a folder; its options are those of `Run`."""

    def make(photos, name="run", **options):
        return Run(tmp_path / name, photos, beam_pipeline, **options)

    return make
