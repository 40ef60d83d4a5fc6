"""Inspection: reads, hashes, decodes and measures the items of a source.

Every item gives exactly one record, and each file is read once. The files are decoded by the
serving op in one tf.data pipeline. A file that the op refuses is missing from the output of the
pipeline, and is decoded once more to get the text of the error.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.components.example_gen.inspection_cache import InspectionCache
from imgpipe.components.example_gen.sources.base import Item, Source
from imgpipe.components.image_file.content import (
    Content,
    alpha_channel,
    decode,
    wrong_colours,
)
from imgpipe.components.image_file.header import probe
from imgpipe.components.image_file.pixels import Pixels
from imgpipe.components.image_filter.checks import MEASUREMENTS
from imgpipe.components.image_record import ImageRecord
from imgpipe.components.splits import SplitRule
from imgpipe.models import preprocess
from imgpipe.models.dataset_tuning import untuned
from imgpipe.serving import image_header

if TYPE_CHECKING:
    import tensorflow as tf

_AT_ONCE = 8  # files passed to tf.data together, because each call takes 0.1 ms
#: Largest size, in bytes, of the files that are kept while they are in the pipeline. Beyond it a
#: file that the op refuses is read again, so that large broken files do not fill the memory.
MAX_HELD_BYTES = 64 << 20


@dataclass
class Inspection:
    """Inspects the items of one source.

    Attributes:
        source: Source that the items are read from.
        pixel_limit: Largest number of pixels, according to the header, that is decoded.
        cache: Inspection cache with the results of earlier runs.
        rule: Assigns the split.
        vocabulary: Class names in sorted order.
        as_served: Whether files that the serving op decodes to other colours count as decoded.
    """

    source: Source
    pixel_limit: int
    cache: InspectionCache
    rule: SplitRule  # assigns the split
    vocabulary: Sequence[str]  # class names in sorted order
    as_served: bool = False

    def records(self, items: Sequence[Item]) -> Iterator[ImageRecord]:
        """Inspect items, with only a few files in memory at a time.

        Args:
            items: Items of the source's listing.

        Returns:
            One record for each item, in the order of `items`.
        """
        expected = 0
        read: dict[int, _File] = {}
        with self.cache:
            # The pipeline keeps the order, so the indices that it skips are those of refused files.
            for index, pixels in self._decoded(items, read):
                for refused in range(expected, index):
                    yield self._refused(items[refused], read.pop(refused))
                expected = index + 1
                yield self._finished(read.pop(index), pixels)
            for refused in range(expected, len(items)):
                yield self._refused(items[refused], read.pop(refused))

    def known(self, item: Item) -> ImageRecord | None:
        """Look an item up in the inspection cache.

        Args:
            item: Item of a scan, whose hash is known, so that the file is read only when found.

        Returns:
            The record of the item, or None if its content has not been inspected before.
        """
        record = self.cache.complete(self._described(item, item.sha256, b""))
        if record is None:
            return None
        data = self.source.read(item)
        return dataclasses.replace(record, image_bytes=data, byte_size=len(data))

    def _read(self, item: Item) -> _File:
        """Read one file without decoding it."""
        try:
            data = self.source.read(item)
        except OSError as error:
            return _File(self._described(item, "", b"", error.strerror or str(error)))
        record = self._described(item, hashlib.sha256(data).hexdigest(), data)
        known = self.cache.complete(record)
        if known is not None:
            return _File(known, known=True)
        header = probe(data, self.pixel_limit)
        names = ("width", "height", "channels", "format", "mode", "frames", "orientation")
        values = {name: getattr(header, name) for name in names}
        return _File(dataclasses.replace(record, **values))

    def _described(
        self, item: Item, image_hash: str, data: bytes, read_error: str = ""
    ) -> ImageRecord:
        label = item.label or ""
        return ImageRecord(
            path=item.path,
            label=label,
            label_index=self.vocabulary.index(label) if label in self.vocabulary else -1,
            # A file that cannot be read has no hash; its path is drawn instead.
            split=self.rule.assign(image_hash or item.path, item.split, item.group),
            image_hash=image_hash,
            byte_size=len(data),
            read_error=read_error,
            symlink=int(item.symlink),
            group=item.group or "",
            problem=item.problem,
            image_bytes=data,
        )

    def _decoded(
        self, items: Sequence[Item], read: dict[int, _File]
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Index and pixels of the files that the op does not refuse; fills `read`."""
        import tensorflow as tf

        failed: list[Exception] = []

        def parts() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
            try:
                yield from read_parts()
            except Exception as error:  # the dataset would take it for a refused file
                failed.append(error)

        def read_parts() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
            for start in range(0, len(items), _AT_ONCE):
                numbers = range(start, min(start + _AT_ONCE, len(items)))
                files = [self._read(items[number]) for number in numbers]
                contents = [file.record.image_bytes for file in files]
                # tf.data runs this in a thread of its own, while `records` removes files. `list`
                # copies them at once; a loop over the dictionary could see it change.
                held = sum(len(file.record.image_bytes) for file in list(read.values()))
                for number, file in zip(numbers, files, strict=True):
                    held += file.record.byte_size
                    read[number] = file if held <= MAX_HELD_BYTES else file.without_bytes()
                # Files that are not decoded pass through without pixels, which keeps the order.
                wanted = np.array([self._is_decoded(file) for file in files])
                yield np.array(numbers), np.array(contents, object), wanted

        with tf.device("cpu"):
            for number, data, values in _dataset(parts).as_numpy_iterator():
                index = int(number)
                record = dataclasses.replace(read[index].record, image_bytes=data)
                read[index] = dataclasses.replace(read[index], record=record)
                if not values.size:
                    yield index, None
                    continue
                yield index, Pixels(values, alpha_channel(data, record.format, record.mode))
        if failed:
            raise failed[0]

    def _is_decoded(self, file: _File) -> bool:
        """Whether a file is passed to the decoder."""
        record = file.record
        if file.known or not record.byte_size or _pixels(record) > self.pixel_limit:
            return False
        return self.as_served or not wrong_colours(record.image_bytes, record.mode)

    def _refused(self, item: Item, file: _File) -> ImageRecord:
        """Decode a file that the op refused once more, to get the text of the error."""
        record = file.record
        if record.byte_size and not record.image_bytes:
            record = self._read(item).record
        values, error = decode(record.image_bytes)
        if values is not None:  # for example when memory was short the first time
            alpha = alpha_channel(record.image_bytes, record.format, record.mode)
            return self._finished(_File(record), Pixels(values, alpha))
        return self._stored(dataclasses.replace(record, decode_error=error))

    def _finished(self, file: _File, pixels: Pixels | None) -> ImageRecord:
        record = file.record
        if file.known:
            return record
        if pixels is None:
            error = _why_not_decoded(record, self.pixel_limit)
            return self._stored(dataclasses.replace(record, decode_error=error))
        content = Content.of(pixels, MEASUREMENTS)
        values = {name: getattr(content, name) for name in ("width", "height", "figures")}
        hashes = content.perceptual_hash
        return self._stored(dataclasses.replace(record, perceptual_hash=hashes, **values))

    def _stored(self, record: ImageRecord) -> ImageRecord:
        """Put a record into the inspection cache, and return it."""
        self.cache.put(record)
        return record


@dataclass(frozen=True)
class _File:
    """A file that was read."""

    record: ImageRecord
    known: bool = False  # whether an earlier run has inspected its content

    def without_bytes(self) -> _File:
        return dataclasses.replace(self, record=dataclasses.replace(self.record, image_bytes=b""))


def inspect(
    source: Source,
    items: Sequence[Item],
    pixel_limit: int,
    store: str = "",
    rule: SplitRule | None = None,
    vocabulary: Sequence[str] = (),
    as_served: bool = False,
) -> Iterator[ImageRecord]:
    """Inspect items of a source.

    Args:
        source: Source that the items are read from.
        items: Items of the source's listing.
        pixel_limit: Largest number of pixels, according to the header, that is decoded.
        store: Folder of the inspection cache, "" for none.
        rule: Assigns the split. Default: `SplitRule()`.
        vocabulary: Class names in sorted order.
        as_served: Whether files that the serving op decodes to other colours count as decoded, as
            they do for a model that answers them. A run repairs them instead.

    Returns:
        One record for each item, in the order of `items`.
    """
    cache = InspectionCache(store, pixel_limit, as_served)
    rule = rule or SplitRule()
    return Inspection(source, pixel_limit, cache, rule, vocabulary, as_served).records(items)


def _dataset(parts: object) -> tf.data.Dataset:
    """Dataset of (index, encoded file, pixels) of the files that the op does not refuse."""
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert
    def decoded(index: tf.Tensor, data: tf.Tensor, wanted: tf.Tensor) -> tuple[tf.Tensor, ...]:
        empty = tf.zeros([0, 0, 3], tf.uint8)
        return index, data, tf.cond(wanted, lambda: preprocess.decode(data), lambda: empty)

    kinds = tuple(tf.TensorSpec([None], kind) for kind in (tf.int64, tf.string, tf.bool))
    with tf.device("cpu"):
        return untuned(
            tf.data.Dataset.from_generator(parts, output_signature=kinds)
            .unbatch()
            # `Inspection.records` relies on the order.
            .map(decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .ignore_errors()  # skips the files that the op refuses
        )


def _why_not_decoded(record: ImageRecord, pixel_limit: int) -> str:
    """Why a file was not passed to the decoder."""
    if record.read_error:
        return "the file could not be read"
    if not record.byte_size:
        return "the file is empty"
    if _pixels(record) <= pixel_limit:
        return wrong_colours(record.image_bytes, record.mode)
    frames = f"{record.frames} frames of " if record.frames > 1 else ""
    size = f"{frames}{record.width} x {record.height}"
    return f"not decoded: {size} pixels are over the limit of {pixel_limit:,}"


def _pixels(record: ImageRecord) -> int:
    """Return the number of pixels that the op decodes: of a GIF, those of all frames."""
    frames = image_header.pixels(record.image_bytes) if record.format == "GIF" else 0
    return max(record.pixels, frames or 0)
