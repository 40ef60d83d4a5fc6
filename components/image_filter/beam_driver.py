"""The judgement of a whole Examples artifact on any Beam engine: kept, metadata, quarantine.

Two passes over the shard files. The first asks the checks and leaves (hash, path, split, label) of
what passes in small files; the contents that are there twice, or near another, are grouped; the
second pass asks again (nearly free) and writes. Neither image bytes nor anything else of every
picture travels between stages, so memory does not grow with the number of images.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from imgpipe.components.image_file.inspection import look_at
from imgpipe.components.image_filter import (
    checks,
    decisions,
    first_pass,
    identical_files,
    quarantine,
)
from imgpipe.components.image_filter.check import Record, Settings
from imgpipe.components.image_filter.decisions import Account, judge, to_record
from imgpipe.components.image_filter.first_pass import Part, PartWriter
from imgpipe.components.image_filter.near_duplicates import beam_steps, groups
from imgpipe.components.records import (
    ShardWriter,
    first,
    make,
    raw,
    read_examples,
    remove_folder,
    shard_files,
    shard_path,
)
from imgpipe.models import feature_names as names
from imgpipe.models import progress

if TYPE_CHECKING:
    import tensorflow as tf

_KEPT, _METADATA = "kept", "metadata"
_PARTS = ".parts"  # folder in the quarantine, while the filter works
_STATISTICS_FEATURES = (*names.METADATA, names.SPLIT)


@dataclass(frozen=True)
class Places:
    """URIs that the filter reads from and writes to."""

    examples: str
    kept: str
    metadata: str
    quarantine: str


@dataclass(frozen=True)
class _File:
    path: str
    split: str
    number: int
    of: int


class _Candidates(beam.DoFn):
    """First pass: the part of each file, of the records that no check rejects.

    On the tag ``sizes``, how many of them have each number of pixels.
    """

    SIZES = "sizes"

    def __init__(self, settings: Settings, near: bool, folder: str) -> None:
        self._settings = settings
        self._near = near
        self._folder = folder

    def process(self, file: _File) -> Iterator[Any]:
        sizes: collections.Counter[int] = collections.Counter()
        part = Part.below(self._folder, f"{file.split}-{file.number}")
        with PartWriter(part) as writer:
            for example in read_examples(file.path):
                record = checks.reviewed(to_record(example), self._settings)
                judgement = judge(record, self._settings)
                if judgement.reject is not None:
                    continue
                copy = identical_files.Copy(record.path, record.split, record.label, record.group)
                row = decisions.row(record, judgement) if self._near else b""
                writer.write(record.image_hash, copy, row)
                sizes[record.pixels] += 1
        yield part
        yield beam.pvalue.TaggedOutput(self.SIZES, sizes)


def _add_sizes(sizes: Iterable[collections.Counter[int]]) -> collections.Counter[int]:
    total: collections.Counter[int] = collections.Counter()
    for counter in sizes:
        total.update(counter)
    return total


def _drops(
    group: tuple[str, Iterable[identical_files.Copy]],
) -> list[tuple[bytes, identical_files.Drop]]:
    """Keyed by path as bytes: Beam's coders refuse names that are not UTF-8."""
    return [(os.fsencode(drop.path), drop) for drop in identical_files.resolve(group[1])]


class _Write(beam.DoFn):
    """Second pass: each record goes to the kept and metadata files or to quarantine."""

    def __init__(self, settings: Settings, places: Places) -> None:
        self._settings = settings
        self._places = places

    def process(
        self,
        file: _File,
        drops: Mapping[bytes, identical_files.Drop],
        near: Mapping[bytes, groups.Ruling],
        sizes: Mapping[int, int],
    ) -> Iterator[Account]:
        account = Account()
        self._settings = decisions.with_sizes(self._settings, sizes)
        paths = {
            key: shard_path(uri, file.split, file.number, file.of)
            for key, uri in ((_KEPT, self._places.kept), (_METADATA, self._places.metadata))
        }
        with ShardWriter(paths) as writer:
            for example in read_examples(file.path):
                account.read += 1
                path = raw(example, names.PATH)
                self._one(example, drops.get(path), near.get(path), writer, account)
                progress.advance(1, "images")
        yield account

    def _one(
        self,
        example: tf.train.Example,
        drop: identical_files.Drop | None,
        near: groups.Ruling | None,
        writer: ShardWriter,
        account: Account,
    ) -> None:
        found = to_record(example)
        record = checks.reviewed(found, self._settings)
        judgement = judge(record, self._settings)
        reject = decisions.reject_of(record, judgement, drop, near)
        account.review(found.label, record, reject, self._settings)
        if reject is not None:
            stored = quarantine.store(self._places.quarantine, record, reject.reason)
            account.rejects.append(dataclasses.replace(reject, stored=stored))
            return
        if record.label != found.label:
            _set(example, {names.LABEL: record.label, names.LABEL_INDEX: record.label_index})
        _repair(example, record, judgement, account)
        account.keep(record, judgement, near)
        writer.write(_KEPT, example)
        writer.write(_METADATA, metadata_of(example))


def _repair(
    example: tf.train.Example, record: Record, judgement: checks.Judgement, account: Account
) -> None:
    """Put the mended bytes into the example, and what they measure; what failed is a warning."""
    if not judgement.repairs:
        return
    data, done, failed = checks.mended(record, judgement)
    account.mend(record, done, failed)
    look = look_at(data)
    if not done or look.size is None or look.measured is None:
        return
    width, height = look.size
    values: dict[str, str | bytes | int | float] = {
        names.IMAGE_BYTES: data,
        names.DECODE_ERROR: "",
        names.REPAIRS: ",".join(repair.reason for repair in done),
        names.WIDTH: width,
        names.HEIGHT: height,
        names.ASPECT_RATIO: width / height,
        **look.measured.features(),
    }
    if any(repair.reason == checks.orientation.CHECK.name for repair in done):
        values[names.ORIENTATION] = 1
    _set(example, values)


def _set(example: tf.train.Example, values: Mapping[str, str | bytes | int | float]) -> None:
    for name, feature in make(values).features.feature.items():
        example.features.feature[name].CopyFrom(feature)


def metadata_of(example: tf.train.Example) -> tf.train.Example:
    """The features that have a distribution: what statistics, schema and anomalies look at."""
    values = {name: first(example, name) for name in _STATISTICS_FEATURES}
    return make({name: value for name, value in values.items() if value is not None})


def _files(uri: str) -> list[_File]:
    found = []
    for split in names.SPLITS:
        paths = shard_files(uri, split)
        found += [_File(path, split, number, len(paths)) for number, path in enumerate(paths)]
    return found


def filter_examples(
    pipeline: beam.Pipeline, places: Places, settings: Settings, vocabulary: tuple[str, ...]
) -> dict[str, Any]:
    """Judge every record of `places.examples`; returns the quarantine's summary.

    Raises RuntimeError when records in are not records kept plus rejected: a defect, never data.
    """
    checks.validate(settings)
    ingested = quarantine.ingest_summary(places.examples)
    quarantine.make_private(places.quarantine)
    progress.total(ingested.get("images", 0), "images")
    near_settings = decisions.near_settings(settings)
    parts_folder = f"{places.quarantine}/{_PARTS}"
    with pipeline as root:
        files = root | "Shards" >> beam.Create(_files(places.examples), reshuffle=True)
        candidates = _Candidates(settings, near_settings.radius > 0, parts_folder)
        judged = files | "Judge" >> beam.ParDo(candidates).with_outputs(
            _Candidates.SIZES, main="parts"
        )
        found = (
            judged.parts
            | "All parts" >> beam.combiners.ToList()
            | "Search" >> beam.FlatMap(first_pass.search, near_settings.radius)
        )
        by_content = (
            judged.parts
            | "Copies" >> beam.FlatMap(first_pass.copies, wanted=beam.pvalue.AsDict(found))
            | "By content" >> beam.GroupByKey()
        )
        drops = by_content | "Resolve" >> beam.FlatMap(_drops)
        near = (by_content, found) | "Near" >> beam_steps.NearDuplicates(
            places.quarantine, near_settings
        )
        sizes = judged[_Candidates.SIZES] | "Sizes" >> beam.CombineGlobally(_add_sizes)
        (
            files
            | "Write"
            >> beam.ParDo(
                _Write(settings, places),
                drops=beam.pvalue.AsDict(drops),
                near=beam.pvalue.AsDict(near),
                sizes=beam.pvalue.AsSingleton(sizes),
            )
            | "Gather" >> beam.combiners.ToList()
            | "Quarantine"
            >> beam.Map(_write_quarantine, places.quarantine, vocabulary, ingested, settings)
        )
    remove_folder(parts_folder)
    quarantine.make_private(places.quarantine)
    summary = quarantine.read_summary(places.quarantine)
    quarantine.check_conservation(summary, ingested.get("images"))
    return summary


def _write_quarantine(
    accounts: list[Account],
    uri: str,
    vocabulary: tuple[str, ...],
    ingested: dict[str, Any],
    settings: Settings,
) -> None:
    notes = ingested.get("notes", [])
    quarantine.write(uri, **decisions.totals(accounts, vocabulary, notes, settings))
