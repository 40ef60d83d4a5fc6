"""Logged images measured by the judge, with the code that measures them at ingestion."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources.base import Item, Scan
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.image_filter.checks import METADATA
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.pipeline.request_drift import log

_TOGETHER = 128  # images in memory at a time, or
_BYTES = 64 << 20  # their bytes
#: What the statistics of training data hold, but for what a request does not: a label.
FEATURES = tuple(n for n in METADATA if n not in (names.LABEL, names.LABEL_INDEX))
_NAMED = 100  # images that do not decode, named; beyond it they are counted


@dataclass(frozen=True)
class Undecodable:
    """A logged image that cannot be measured."""

    image: str  # file, record and row
    error: str


@dataclass
class MeasuredImages:
    """What some images came to."""

    rows: list[dict[str, Any]] = field(
        default_factory=list
    )  # feature → value, of those that decode
    undecodable: list[Undecodable] = field(default_factory=list)  # the first of them
    failed: int = 0


def fetch(
    files: Sequence[Path], model: log.Model, wanted: Collection[log.Location]
) -> Iterator[log.Answer]:
    """The answers at some locations, with their images; those the server removed are left out."""
    only = {(location.file, location.record) for location in wanted}
    left = len(wanted)
    for answer in log.read(files, model, log.ReadStatistics(), only):
        if answer.location in wanted and answer.image:
            yield answer
            left -= 1
        if not left:
            return


def measure(
    images: Iterable[tuple[str, bytes]],
    into: MeasuredImages,
    decodable: Callable[[list[bytes]], None] | None = None,
) -> None:
    """Measure images, given with their names, as ImageExampleGen does.

    Args:
      images: Names and encoded images.
      into: What is found out is added to it.
      decodable: Called with the images that the served model can decode, some at a time.
    """
    for part in _batches(images):
        items = [Item(name) for name in part]
        good = []
        for record in inspect(_Memory(part), items, Settings().pixel_limit):
            progress.advance(1, "images")
            if not record.figures:
                into.failed += 1
                if len(into.undecodable) < _NAMED:
                    error = record.decode_error or record.read_error
                    into.undecodable.append(Undecodable(record.path, error))
                continue
            good.append(part[record.path])
            features = record.features()
            into.rows.append({name: features[name] for name in FEATURES})
        if decodable is not None and good:
            decodable(good)


def _batches(images: Iterable[tuple[str, bytes]]) -> Iterator[dict[str, bytes]]:
    part: dict[str, bytes] = {}
    size = 0
    for name, data in images:
        part[name] = data
        size += len(data)
        if len(part) == _TOGETHER or size >= _BYTES:
            yield part
            part, size = {}, 0
    if part:
        yield part


@dataclass(frozen=True)
class _Memory:
    """A source of bytes by name."""

    files: dict[str, bytes]

    def read(self, item: Item) -> bytes:
        return self.files[item.path]

    def listing(self) -> Scan:
        return Scan("", tuple(map(Item, self.files)), ())

    scan = listing


def spread(locations: Sequence[log.Location], most: int) -> list[log.Location]:
    """At most so many of them, evenly from first to last."""
    if len(locations) <= most:
        return list(locations)
    return [locations[i * len(locations) // most] for i in range(most)]


def named(files: Sequence[Path], location: log.Location) -> str:
    """An image's name for people."""
    return f"{files[location.file].name}, record {location.record}, image {location.row}"
