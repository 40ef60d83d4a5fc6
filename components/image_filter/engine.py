"""The engine that judges a set of images: inspect, decide, resolve groups, write.

Two drivers run it, Beam for ImageFilter and a thread pool for ``imgpipe check``, so that both give
the same answers. A set is cut into shards. The first pass decides about each image of a shard by
itself (`examine`) and leaves what the comparison needs in files, so that memory does not grow with
the number of images. When all shards are examined, the images with the same or nearly the same
content are found (`search`) and resolved in groups (`resolve_identical`, `resolve_near`). The
second pass combines both (`settle`). Each image is read, decided about and written in the first
pass; the second one only takes out what the comparison rejected.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from imgpipe.components.image_filter import identical_files
from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.checks import CHECKS, near_duplicate
from imgpipe.components.image_filter.decision import Decision, decide, decide_in_set
from imgpipe.components.image_filter.identical_files import Copy
from imgpipe.components.image_filter.near_duplicates import matching
from imgpipe.components.image_filter.near_duplicates.groups import Member
from imgpipe.components.image_filter.near_duplicates.matching import Found
from imgpipe.components.image_filter.outcomes import Outcomes
from imgpipe.components.image_record import ImageRecord
from imgpipe.models import progress

#: Check that needs the whole set → number that it counts → images that have it.
Counts = dict[str, collections.Counter[int]]


class Output(Protocol):
    """Where a driver writes the images of a shard."""

    def write(self, decision: Decision) -> str:
        """Write an image that passed the checks, or store one that did not.

        Returns:
            Where the bytes of a rejected image are stored, "" for nowhere.
        """
        ...

    def publish(self, removed: Sequence[Decision]) -> Mapping[str, str]:
        """Make what was written visible, without the images that the second pass rejected.

        An image that the first pass had rejected for another reason is among them, and its
        rejection says where its bytes are stored.

        Returns:
            Path of such an image → where its bytes are stored.
        """
        ...


@dataclass(frozen=True)
class Part:
    """What the first pass leaves of a shard, in three files.

    Attributes:
        place: Path or URI of the files, without their suffix.
    """

    place: str

    def write(self, decisions: Sequence[Decision], rows: Sequence[bytes]) -> None:
        """Write the files; a second attempt writes the same."""
        kept = [one.record.image_hash for one in decisions if one.rejection is None]
        self._write("decisions", pickle.dumps(decisions, pickle.HIGHEST_PROTOCOL))
        self._write("contents", bytes.fromhex("".join(kept)))
        self._write("rows", b"".join(rows))

    def decisions(self) -> list[Decision]:
        """The decisions of the first pass, in the order of the shard."""
        found: list[Decision] = pickle.loads(self._read("decisions"))  # written by this pipeline
        return found

    def contents(self) -> matching.Contents:
        """Content hashes of the images that passed the checks."""
        return matching.contents(self._read("contents"))

    def rows(self) -> bytes:
        """What the search for near-duplicates needs; 150 kB for a shard of 256 images."""
        return self._read("rows")

    def copies(self, wanted: Mapping[str, Found | None]) -> Iterator[tuple[str, Copy]]:
        """(content hash, image) of the images that passed the checks and have a wanted content."""
        if not any(content.tobytes().hex() in wanted for content in self.contents()):
            return
        for one in self.decisions():
            record = one.record
            if one.rejection is None and record.image_hash in wanted:
                copy = Copy(record.path, record.split, record.label, record.group)
                yield record.image_hash, copy

    def _write(self, suffix: str, data: bytes) -> None:
        import tensorflow as tf

        with tf.io.gfile.GFile(f"{self.place}.{suffix}", "wb") as file:
            file.write(data)

    def _read(self, suffix: str) -> bytes:
        import tensorflow as tf

        with tf.io.gfile.GFile(f"{self.place}.{suffix}", "rb") as file:
            return bytes(file.read())


def examine(
    records: Iterable[ImageRecord], settings: Settings, part: Part, output: Output
) -> Counts:
    """Decide about each image of a shard by itself: the first pass.

    Args:
        records: The images as inspected.
        settings: What the checks compare with.
        part: Where the decisions are left for the second pass.
        output: Where each image is written while its bytes are there.

    Returns:
        What the checks of the whole set count in the images that passed.
    """
    near = radius(settings) > 0
    decisions: list[Decision] = []
    rows: list[bytes] = []
    counts: Counts = {c.name: collections.Counter() for c in CHECKS if c.counted is not None}
    for record in records:
        decision = decide(record, settings)
        stored = output.write(decision)
        if decision.rejection is not None:
            decision = decision.stored_at(stored)
        else:
            if near:
                rows.append(matching.row(record.image_hash, decision.perceptual_hash))
            for check in CHECKS:
                if check.counted is not None:
                    counts[check.name][check.counted(decision.record)] += 1
        decisions.append(decision.without_pixels())
        progress.advance(1, "images")
    part.write(decisions, rows)
    return counts


def add_counts(counts: Iterable[Counts]) -> Counts:
    """The sum of the counts of all shards."""
    total: Counts = {c.name: collections.Counter() for c in CHECKS if c.counted is not None}
    for one in counts:
        for name, counter in one.items():
            total[name].update(counter)
    return total


def with_limits(settings: Settings, counts: Counts) -> Settings:
    """The settings with the limits that the whole set gives."""
    limits = {
        check.name: check.limits(counts[check.name], check.threshold_in(settings))
        for check in CHECKS
        if check.limits is not None
    }
    return dataclasses.replace(settings, limits=limits)


def radius(settings: Settings) -> int:
    """Bits within which images are near-duplicates; 0 when none are looked for."""
    return int(near_duplicate.CHECK.threshold_in(settings))


def search(parts: Sequence[Part], settings: Settings) -> Iterator[tuple[str, Found | None]]:
    """Find the contents that occur twice or are near another.

    Returns:
        Their hashes, each with the near-duplicates that it belongs to, None when it has none.
    """
    limit = radius(settings)
    with tempfile.TemporaryDirectory(prefix="imgpipe-rows-") as folder:
        rows = matching.Columns(Path(folder) / "rows")
        for part in parts:
            rows.append([part.rows()])
        found = dict(matching.find_in(rows, limit)) if limit > 0 else {}
    yield from found.items()
    for content in matching.repeated([part.contents() for part in parts]):
        if content.hex() not in found:
            yield content.hex(), None


def resolve_identical(group: tuple[str, Iterable[Copy]]) -> list[tuple[bytes, Finding]]:
    """(path, finding) of the images with one content that are rejected."""
    return _by_path(identical_files.resolve(group[1]))


def resolve_near(
    group: tuple[int, Iterable[tuple[int, Member]]], settings: Settings
) -> Iterator[tuple[list[tuple[bytes, Finding]], dict[str, Any]]]:
    """(path, finding) of a group of near-duplicates, and its line in the quarantine."""
    for findings, line in matching.resolve_group(group, matching.near_settings(settings)):
        yield _by_path(findings), line


def _by_path(findings: Iterable[Finding]) -> list[tuple[bytes, Finding]]:
    """Keyed by path as bytes: Beam's coders refuse names that are not UTF-8."""
    return [(os.fsencode(finding.path), finding) for finding in findings]


def settle(
    part: Part, settings: Settings, findings: Mapping[bytes, Finding], output: Output
) -> Outcomes:
    """What becomes of the images of a shard, now that the whole set is known: the second pass.

    Args:
        part: What the first pass left.
        settings: What the checks compare with, `with_limits` of the set.
        findings: What the comparison with other images found, by path.
        output: Where the shard is written; see `examine`.
    """
    decisions, removed = [], []
    for first in part.decisions():
        decision = _settled(first, settings, findings)
        decisions.append(decision)
        if decision.rejection is not first.rejection:
            removed.append(decision)
    stored = output.publish(removed)
    outcomes = Outcomes()
    for decision in decisions:
        if place := stored.get(decision.record.path):
            decision = decision.stored_at(place)
        outcomes.add(decision, settings)
    return outcomes


def _settled(decision: Decision, settings: Settings, findings: Mapping[bytes, Finding]) -> Decision:
    """The decision about one image with what the comparison with other images found."""
    decision = decide_in_set(decision, settings)
    finding = findings.get(os.fsencode(decision.record.path))
    if decision.rejection is not None or finding is None:
        return decision
    finding = finding.about(decision.record)
    if finding.severity == "reject":
        return dataclasses.replace(decision, rejection=finding)
    return dataclasses.replace(decision, warnings=(*decision.warnings, finding))
