"""A source turned into the shard files of an Examples artifact, on any Beam engine.

Each element of the Beam pipeline is a list of files; the worker that gets it reads, decodes and
writes them. Image bytes never travel between stages, so memory does not grow with the source.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import apache_beam as beam

from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import open_source
from imgpipe.components.example_gen.sources.base import Item, SourceOptions, fingerprint
from imgpipe.components.example_gen.splits import SplitRule
from imgpipe.components.records import ShardWriter, read_json, shard_path, write_text
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.errors import ResourceError

SHARD_SIZE = 256  # files an element: enough to amortise one tf.data pipeline (~50 ms)
SUMMARY_FILE = "ingest.json"  # beside the splits of the Examples artifact
#: Pixels of an image that is still decoded, by its header: three 100-megapixel bytes are 300 MB.
PIXEL_LIMIT = 100_000_000


@dataclass(frozen=True)
class IngestSettings:
    """What decides the records."""

    source: str
    vocabulary: tuple[str, ...]
    rule: SplitRule = field(default_factory=SplitRule)
    pixel_limit: int = PIXEL_LIMIT
    fingerprint: str = ""  # of the scan that the run was planned on; "" is not compared
    shard_size: int = SHARD_SIZE
    options: SourceOptions = field(default_factory=SourceOptions)
    store: str = ""  # folder of the kept verdicts, "" for none


@dataclass(frozen=True)
class _Shard:
    number: int
    of: int
    items: tuple[Item, ...]


class _WriteShard(beam.DoFn):
    """Files in, their records in one file a split, a small account out."""

    def __init__(self, settings: IngestSettings, uri: str) -> None:
        self._settings = settings
        self._uri = uri

    def process(self, shard: _Shard) -> Iterator[dict[str, Any]]:
        settings = self._settings
        keys: list[bytes] = []
        paths = {s: shard_path(self._uri, s, shard.number, shard.of) for s in names.SPLITS}
        with ShardWriter(paths) as writer:
            source = open_source(settings.source, settings.options)
            records = inspect(
                source,
                shard.items,
                settings.pixel_limit,
                settings.store,
                settings.rule,
                settings.vocabulary,
            )
            for item, record in zip(shard.items, records, strict=True):
                writer.write(record.split, record.to_example())
                keys.append(item.key(record.image_hash))
                progress.advance(1, "images")
        yield {"keys": keys, "splits": writer.written}


def _shards(items: tuple[Item, ...], size: int) -> list[_Shard]:
    """At least one shard, so that an empty source still writes its (empty) files."""
    cut = [items[start : start + size] for start in range(0, len(items), size)] or [()]
    return [_Shard(number, len(cut), part) for number, part in enumerate(cut)]


def _write_summary(accounts: list[dict[str, Any]], uri: str, notes: list[dict[str, str]]) -> None:
    """One small file that says what was read."""
    splits: collections.Counter[str] = collections.Counter()
    keys: list[bytes] = []
    for account in accounts:
        splits.update(account["splits"])
        keys += account["keys"]
    summary = {
        "images": len(keys),
        "splits": {split: splits[split] for split in names.SPLITS},
        "fingerprint": fingerprint(keys),
        "notes": notes,
    }
    write_text(f"{uri}/{SUMMARY_FILE}", json.dumps(summary, indent=1))


def ingest(pipeline: beam.Pipeline, uri: str, settings: IngestSettings) -> dict[str, Any]:
    """Read the whole source into an Examples artifact at `uri`; returns its summary.

    Raises ConfigError when the source is not laid out as expected and ResourceError when it is
    no longer what it was when the run was planned (`settings.fingerprint`).
    """
    scan = open_source(settings.source, settings.options).listing()
    settings = replace(settings, rule=replace(settings.rule, given=scan.given_splits))
    progress.total(len(scan.items), "images")
    notes = [asdict(note) for note in scan.notes]
    with pipeline as root:
        (
            root
            | "Shards" >> beam.Create(_shards(scan.items, settings.shard_size), reshuffle=True)
            | "Read, decode, write" >> beam.ParDo(_WriteShard(settings, uri))
            | "Gather" >> beam.combiners.ToList()
            | "Summary" >> beam.Map(_write_summary, uri, notes)
        )
    summary = read_json(f"{uri}/{SUMMARY_FILE}")
    _check(settings, len(scan.items), summary)
    return summary


def _check(settings: IngestSettings, listed: int, summary: dict[str, Any]) -> None:
    """Every listed file has a record, and the contents are those the run was planned on."""
    records = sum(summary["splits"].values())
    if not listed == summary["images"] == records:
        raise RuntimeError(
            f"images were lost while reading: {listed} listed, {summary['images']} read, "
            f"{records} written; this is a defect"
        )
    if settings.fingerprint and settings.fingerprint != summary["fingerprint"]:
        raise ResourceError(
            f"the photographs in {settings.source!r} changed while the run was reading them "
            f"(fingerprint {settings.fingerprint[:12]} when planned, "
            f"{summary['fingerprint'][:12]} now); let the copying finish and run again"
        )
