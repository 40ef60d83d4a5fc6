"""The Beam driver of the engine. It writes kept images, their metadata and the quarantine.

The stages pass on neither image bytes nor any other data of every image, so memory does not grow
with the number of images.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from imgpipe.components.image_filter import (
    comparison,
    engine,
    near_duplicate_steps,
    quarantine,
)
from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.checks import METADATA, validate
from imgpipe.components.image_filter.decision import Decision
from imgpipe.components.image_filter.outcomes import Outcomes, totals
from imgpipe.components.image_filter.part import Part
from imgpipe.components.image_filter.placement import Move
from imgpipe.components.image_record import ImageRecord
from imgpipe.components.splits import SplitRule
from imgpipe.components.storage.records import (
    ShardWriter,
    make,
    read_examples,
    remove_folder,
    remove_temporary,
    shard_files,
    shard_path,
)
from imgpipe.models import feature_names as names
from imgpipe.models import progress

_KEPT, _METADATA = "kept", "metadata"
_PARTS = ".parts"  # folder for unfinished files while the filter runs
_STATISTICS_FEATURES = (*METADATA, names.SPLIT)


@dataclass(frozen=True)
class Uris:
    """URIs of the artifacts that the filter reads and writes."""

    examples: str
    kept: str
    metadata: str
    quarantine: str

    def folders(self) -> dict[str, str]:
        """Return the URIs of the outputs by kind."""
        return {_KEPT: self.kept, _METADATA: self.metadata}

    def remove_parts(self) -> None:
        """Remove the unfinished files, also those of attempts that died."""
        for uri in (self.quarantine, self.kept, self.metadata):
            remove_folder(f"{uri}/{_PARTS}")
            remove_temporary(uri)


@dataclass(frozen=True)
class _Shard:
    """The files with one number: of the Examples artifact, and of the outputs.

    The outputs are candidates in the first pass, and published in the second. The candidates are
    complete files. If the comparison with other images neither rejects nor moves any of the images,
    the files are renamed; otherwise they are copied with the changes.
    """

    uris: Uris
    inputs: tuple[str, ...]  # paths of the Examples, one for each split
    number: int
    of: int

    @property
    def part(self) -> Part:
        return Part(f"{self.uris.quarantine}/{_PARTS}/{self.number}")

    @property
    def candidates(self) -> dict[str, str]:
        return self._files(lambda uri, split: f"{uri}/{_PARTS}/{split}-{self.number}")

    @property
    def published(self) -> dict[str, str]:
        return self._files(lambda uri, split: shard_path(uri, split, self.number, self.of))

    def _files(self, path: Callable[[str, str], str]) -> dict[str, str]:
        folders = self.uris.folders().items()
        return {_kind(k, split): path(uri, split) for k, uri in folders for split in names.SPLITS}

    def write(self, writer: ShardWriter, decision: Decision) -> Decision:
        """See `engine.Write`; the writer has the candidates open."""
        if decision.rejection is None:
            _write(writer, decision.kept)
            return decision
        return decision.stored_at(self._store(decision, decision.record))

    def publish(self, removed: Sequence[Decision], moved: Sequence[Decision]) -> Mapping[str, str]:
        """See `engine.Publish`. If a worker fails, publishing again gives the same files."""
        import tensorflow as tf

        candidates, published = self.candidates, self.published
        # The first pass has stored the bytes of these for another reason; only the folder changes.
        stored = {
            decision.record.path: quarantine.move(self.uris.quarantine, decision.rejection)
            for decision in removed
            if decision.rejection is not None and decision.rejection.stored
        }
        gone = {d.record.path: d for d in removed if d.record.path not in stored}
        if not gone and not moved:
            for kind, path in candidates.items():
                try:
                    tf.io.gfile.rename(path, published[kind], overwrite=True)
                except tf.errors.NotFoundError:
                    if not tf.io.gfile.exists(published[kind]):  # no other attempt renamed it
                        raise
            return stored
        elsewhere = {decision.record.path: decision for decision in moved}
        with ShardWriter(published) as writer:
            for record in _records(candidates[_kind(_KEPT, split)] for split in names.SPLITS):
                decision = gone.get(record.path)
                if decision is None:
                    _write(writer, _placed(record, elsewhere.get(record.path)))
                elif not decision.repairs:
                    stored[record.path] = self._store(decision, record)
        # Of a repaired image the candidate has other bytes than the file.
        repaired = {path: decision for path, decision in gone.items() if decision.repairs}
        for record in _records(self.inputs) if repaired else ():
            if decision := repaired.get(record.path):
                stored[record.path] = self._store(decision, record)
        return stored

    def _store(self, decision: Decision, record: ImageRecord) -> str:
        """Store the bytes of a rejected image; see `quarantine.store`."""
        reason = decision.rejection.reason if decision.rejection is not None else ""
        return quarantine.store(self.uris.quarantine, record, reason)


def _records(paths: Iterable[str]) -> Iterator[ImageRecord]:
    for path in paths:
        yield from map(ImageRecord.from_example, read_examples(path))


def _kind(kind: str, split: str) -> str:
    """Return the key by which a `ShardWriter` knows the file of a kind of output and a split."""
    return f"{kind}-{split}"


def _placed(record: ImageRecord, decision: Decision | None) -> ImageRecord:
    """Return the record in the split to which it is moved, None: it stays where it is."""
    if decision is None:
        return record
    placed = decision.record
    return dataclasses.replace(
        record, split=placed.split, label=placed.label, label_index=placed.label_index
    )


def _write(writer: ShardWriter, record: ImageRecord) -> None:
    """Write the Example of an image, and the features that statistics and schema use."""
    features = record.features()
    writer.write(_kind(_KEPT, record.split), make(features))
    described = {k: v for k, v in features.items() if k in _STATISTICS_FEATURES}
    writer.write(_kind(_METADATA, record.split), make(described))


def _examine(shard: _Shard, settings: Settings) -> Iterator[Any]:
    """Run the first pass. Yields the part, and the counts for the checks that need the set."""
    with ShardWriter(shard.candidates) as writer:
        write = functools.partial(shard.write, writer)
        counts = engine.examine(_records(shard.inputs), settings, shard.part, write)
    yield shard.part
    yield beam.pvalue.TaggedOutput("counts", counts)


def _settle(
    shard: _Shard,
    settings: Settings,
    findings: Mapping[bytes, Finding],
    counts: engine.Counts,
    moves: Mapping[str, Move],
) -> Outcomes:
    """Run the second pass."""
    settings = engine.with_limits(settings, counts)
    return engine.settle(shard.part, settings, findings, moves, shard.publish)


def _shards(uris: Uris) -> list[_Shard]:
    by_split = [shard_files(uris.examples, split) for split in names.SPLITS]
    count = max(map(len, by_split))
    return [
        _Shard(uris, tuple(paths[n] for paths in by_split if n < len(paths)), n, count)
        for n in range(count)
    ]


def _make_folders(uris: Uris) -> None:
    import tensorflow as tf

    for uri in (*uris.folders().values(), uris.quarantine):
        tf.io.gfile.makedirs(f"{uri}/{_PARTS}")
    for uri in uris.folders().values():
        for split in names.SPLITS:
            tf.io.gfile.makedirs(f"{uri}/Split-{split}")


def filter_examples(
    pipeline: beam.Pipeline, uris: Uris, settings: Settings, vocabulary: tuple[str, ...]
) -> dict[str, Any]:
    """Filter all records of an Examples artifact.

    Args:
        pipeline: A Beam pipeline with any runner.
        uris: URIs to read from and write to.
        settings: Settings of the checks.
        vocabulary: Class names in sorted order.

    Returns:
        The summary of the quarantine.

    Raises:
        ConfigError: The settings name an unknown check or a severity that it cannot have.
        RuntimeError: The numbers of kept and rejected records do not add up to the number of
            records read, which is a defect.
    """
    validate(settings)
    ingested = quarantine.ingest_summary(uris.examples)
    if rule := ingested.get("rule"):
        settings = dataclasses.replace(settings, splits=SplitRule.from_json(rule))
    # Before the first file is written, so that no other user can ever read one.
    quarantine.make_private(uris.quarantine)
    progress.total(ingested.get("images", 0), "images")
    _make_folders(uris)
    with pipeline as root:
        shards = root | "Shards" >> beam.Create(_shards(uris), reshuffle=True)
        examine = beam.FlatMap(_examine, settings).with_outputs("counts", main="parts")
        examined = shards | "Examine" >> examine
        findings, moves = _compared(examined.parts, uris, settings)
        counts = examined.counts | "Counts" >> beam.CombineGlobally(engine.add_counts)
        (
            shards
            | "Settle"
            >> beam.Map(
                _settle,
                settings,
                findings=beam.pvalue.AsDict(findings),
                counts=beam.pvalue.AsSingleton(counts),
                moves=moves,
            )
            | "Gather" >> beam.combiners.ToList()
            | "Quarantine"
            >> beam.Map(_write_quarantine, uris.quarantine, vocabulary, ingested, settings)
        )
    uris.remove_parts()
    quarantine.make_private(uris.quarantine)  # also the files that were written since
    summary = quarantine.read_summary(uris.quarantine)
    quarantine.check_conservation(summary, ingested.get("images"))
    return summary


def _compared(parts: Any, uris: Uris, settings: Settings) -> tuple[Any, Any]:
    """Compare the images of all shards with each other.

    Args:
        parts: Collection of the parts that the first pass wrote.
        uris: URIs to write to.
        settings: Settings of the checks.

    Returns:
        Collection of the findings by image, and the moves to other splits as a side input.
    """
    every = parts | "All parts" >> beam.combiners.ToList()
    found = near_duplicate_steps.search(every, f"{uris.quarantine}/{_PARTS}", settings)
    moves = beam.pvalue.AsDict(
        every | "Place" >> beam.FlatMap(comparison.place, settings, beam.pvalue.AsDict(found))
    )
    by_content = (
        parts
        | "Copies" >> beam.FlatMap(Part.copies, wanted=beam.pvalue.AsDict(found), moves=moves)
        | "By content" >> beam.GroupByKey()
    )
    identical = by_content | "Identical" >> beam.FlatMap(comparison.resolve_identical)
    near = near_duplicate_steps.resolve(by_content, found, uris.quarantine, settings)
    findings = (identical, near) | "Findings" >> beam.Flatten()
    return findings, moves


def _write_quarantine(
    outcomes: list[Outcomes],
    uri: str,
    vocabulary: tuple[str, ...],
    ingested: dict[str, Any],
    settings: Settings,
) -> None:
    notes = ingested.get("notes", [])
    quarantine.write(uri, totals(outcomes, vocabulary, notes, settings))
