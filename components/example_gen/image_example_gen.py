"""ImageExampleGen: reads the images of a source and writes one tf.Example for each file.

It is a plain component instead of TFX's FileBasedExampleGen, whose driver computes fingerprints
from modification times and does not run on Kubeflow. Here the fingerprint and the vocabulary are
parameters, computed from the contents, so that one new image is noticed and `touch` changes
nothing. Each element of its Beam pipeline is a list of files, and its worker reads, decodes and
writes them. Image bytes are never passed between stages, so that memory does not grow with the
source.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from typing_extensions import TypedDict

from imgpipe.components.common import images as tables
from imgpipe.components.common.artifacts import mark_examples
from imgpipe.components.common.image_row import (
    INGEST_SUMMARY,
    ImageRow,
    IngestSummary,
    read_ingest_summary,
    to_example,
)
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.common.storage.records import (
    ShardWriter,
    remove_temporary,
    shard_path,
    write_text,
)
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import Item, Reader, read_source
from imgpipe.components.example_gen.sources.images import KEY_BYTES, fingerprint
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.regular_files import local_path
from imgpipe.models.machine import progress
from imgpipe.models.settings.given import Given

SHARD_SIZE = 256  # files in one element, few enough for a worker to lose little when it fails


@dataclass(frozen=True)
class _Shard:
    number: int
    of: int
    items: Sequence[Item]


@dataclass(frozen=True)
class _Reading:
    """How the images of a source are inspected; see `inspect`."""

    pixel_limit: int
    store: str
    rule: SplitRule
    vocabulary: tuple[str, ...]


class _Written(TypedDict):
    """What a worker has written of a shard."""

    keys: bytes  # those of the items, joined
    splits: dict[str, int]  # numbers of images


def _write_shard(shard: _Shard, reader: Reader, reading: _Reading, uri: str) -> _Written:
    """Read the files of a shard, write Examples and rows, and return keys and counts."""
    keys: list[bytes] = []
    by_split: dict[str, list[ImageRow]] = {split: [] for split in names.SPLITS}
    paths = {split: shard_path(uri, split, shard.number, shard.of) for split in names.SPLITS}
    with ShardWriter(paths) as writer:
        rows = inspect(
            reader,
            shard.items,
            reading.pixel_limit,
            reading.store,
            reading.rule,
            reading.vocabulary,
        )
        for item, row in zip(shard.items, rows, strict=True):
            writer.write(row.split, to_example(row, row.image_bytes))
            keys.append(item.key(item.version or row.image_hash))
            by_split[row.split].append(replace(row, image_bytes=b""))
            progress.advance(1, "images")
    in_order = (row for split in names.SPLITS for row in by_split[split])
    table = tables.frame(in_order, large=True)
    tables.write(tables.shard_path(uri, shard.number, shard.of), table)
    # Only the keys (32 bytes an image) and the counts leave the worker.
    return {"keys": b"".join(keys), "splits": writer.written}


def _shards(items: Sequence[Item], size: int) -> list[_Shard]:
    """Divide the items into shards; an empty source has one empty shard, which writes its files."""
    cut = [items[start : start + size] for start in range(0, len(items), size)] or [()]
    return [_Shard(number, len(cut), part) for number, part in enumerate(cut)]


def _write_summary(
    results: list[_Written],
    uri: str,
    notes: list[Any],  # findings; Beam would refuse a dictionary for a TypedDict
    rule: SplitRule,
) -> None:
    keys = [result["keys"] for result in results]
    splits = {split: sum(result["splits"][split] for result in results) for split in names.SPLITS}
    summary: IngestSummary = {
        "images": sum(map(len, keys)) // KEY_BYTES,
        "splits": splits,
        "fingerprint": fingerprint(keys),
        "notes": notes,
        "rule": rule.model_dump(),
    }
    write_text(f"{uri}/{INGEST_SUMMARY}", json.dumps(summary, indent=1))


def ingest(
    pipeline: beam.Pipeline, uri: str, given: Given, shard_size: int = SHARD_SIZE
) -> IngestSummary:
    """Read a whole source into the Examples artifact at `uri`, and summarise it.

    Raises ConfigError if the source is not laid out as expected, and ResourceError if it has
    changed since the run was planned.
    """
    settings = given.settings
    store = str(local_path(str(settings.places.judge), "judge.store"))
    images = read_source(settings.data.source, settings.data, store)
    rule = SplitRule.of(settings, images.given_splits)
    reading = _Reading(settings.judge.pixel_limit, store, rule, given.facts.vocabulary)
    progress.total(len(images.items), "images")
    shards = _shards(images.items, shard_size)
    with pipeline as root:
        (
            root
            # A runner may fuse this step with the next one, which would leave all shards to one
            # worker; a reshuffle prevents it (https://beam.apache.org/documentation/runtime/model).
            | "Shards" >> beam.Create(shards, reshuffle=True)
            | "Read, decode, write" >> beam.Map(_write_shard, images.reader, reading, uri)
            | "Gather" >> beam.combiners.ToList()
            # Values do not return from the workers of a cluster, so a step writes them to a file.
            | "Summary" >> beam.Map(_write_summary, uri, list(images.findings), rule)
        )
    remove_temporary(uri)
    summary = read_ingest_summary(uri)
    if summary is None:
        raise RuntimeError(f"the summary of the images in {uri} was not written; this is a defect")
    _check(given, len(images.items), summary)
    return summary


def _check(given: Given, listed: int, summary: IngestSummary) -> None:
    """Check that every listed file has a record, and that the source has not changed."""
    records = sum(summary["splits"].values())
    if not listed == summary["images"] == records:
        raise RuntimeError(
            f"images were lost while reading: {listed} listed, {summary['images']} read, "
            f"{records} written; this is a defect"
        )
    planned = given.facts.fingerprint
    if planned and planned != summary["fingerprint"]:
        raise ResourceError(
            f"the images in {given.settings.data.source!r} changed while the run was reading them "
            f"(fingerprint {planned[:12]} when planned, "
            f"{summary['fingerprint'][:12]} now); wait until nothing writes to it and run again"
        )


@component(use_beam=True)
def ImageExampleGen(
    examples: OutputArtifact[standard_artifacts.Examples],
    settings: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Read, decode and measure all images of a source.

    Args:
        examples: Output: splits train, validation and test with the files and the features of
            an `ImageRow`, the table of the rows, and `ingest.json` with a summary.
        settings: What it reads; see `imgpipe.models.settings.given`.
        beam_pipeline: Beam pipeline, supplied by TFX.
    """
    ingest(beam_pipeline, examples.uri, Given.read(settings))
    mark_examples(examples)
