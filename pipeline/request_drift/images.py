"""Fetches images from a request log and measures them with the code of the ingestion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.image_record import METADATA
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources.base import Item, Scan, Source
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names
from imgpipe.pipeline.request_drift import log
from imgpipe.serving.look import PIXEL_LIMIT

#: A batch is complete with so many images or so many bytes, which bounds the memory.
BATCH_IMAGES = 128
_BATCH_BYTES = 64 << 20
#: Features in the statistics of the training data that a request has too: all but the label.
FEATURES = tuple(name for name in METADATA if name not in (names.LABEL, names.LABEL_INDEX))
_NAMED = 100  # images that cannot be decoded and are listed; the others are only counted


class UndecodableImage(TypedDict):
    """An image of the log that cannot be decoded."""

    image: Annotated[str, "File and record of the log that hold the image."]
    error: Annotated[str, "The error."]


@dataclass
class MeasuredImages:
    """Measurements of images, and the images that could not be measured.

    Attributes:
        rows: The features of each measured image by name.
        undecodable: The first `_NAMED` images that could not be measured.
        failed: Number of all images that could not be measured.
    """

    rows: list[dict[str, object]] = field(default_factory=list)
    undecodable: list[UndecodableImage] = field(default_factory=list)
    failed: int = 0


def fetch(
    files: Sequence[Path], version: int, vocabulary: Sequence[str], wanted: Set[log.Location]
) -> Iterator[tuple[str, bytes]]:
    """Read the images at some locations.

    Args:
        files: Files of the log, in the order in which the locations number them.
        version: Version that received the images.
        vocabulary: Its classes.
        wanted: Locations of the images.

    Yields:
        File, record and row of an image for people, and its bytes. Images whose file the server has
        removed are left out.
    """
    progress.total(len(wanted), "images")
    only = {(location.file, location.record) for location in wanted}
    left = len(wanted)
    answers = log.read(files, {version: vocabulary}, log.ReadStatistics(), only) if left else ()
    for answer in answers:
        at = answer.location
        if at in wanted and answer.image:
            yield f"{files[at.file].name}, record {at.record}, image {at.row}", answer.image
            left -= 1
        if not left:  # the rest of the log need not be read
            return


def measure(
    images: Iterable[tuple[str, bytes]],
    into: MeasuredImages,
    decodable: Callable[[list[bytes]], None] | None = None,
) -> None:
    """Measure images as ImageExampleGen does, with the colours that the served model sees.

    Args:
        images: Names and encoded images.
        into: The measurements are added to it.
        decodable: Called with each batch of the images that the served model can decode.
    """
    for part in _batches(images):
        items = [Item(name) for name in part]
        good = []
        for record in inspect(_Memory(part), items, PIXEL_LIMIT):
            progress.advance(1, "images")
            if not record.content.is_measured:
                into.failed += 1
                if len(into.undecodable) < _NAMED:
                    error = record.content.decode_error or record.read_error
                    into.undecodable.append({"image": record.path, "error": error})
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
        if len(part) == BATCH_IMAGES or size >= _BATCH_BYTES:
            yield part
            part = {}
            size = 0
    if part:
        yield part


@dataclass(frozen=True)
class _Memory(Source):
    """A source whose files are in memory."""

    files: dict[str, bytes]

    def read(self, item: Item) -> bytes:
        return self.files[item.path]

    def listing(self) -> Scan:
        return Scan("", tuple(map(Item, self.files)), ())


def spread(locations: Sequence[log.Location], most: int) -> list[log.Location]:
    """Choose at most so many locations, evenly spread from the first to the last."""
    if len(locations) <= most:
        return list(locations)
    return [locations[i * len(locations) // most] for i in range(most)]
