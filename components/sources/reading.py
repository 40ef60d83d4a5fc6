"""One shard of a source through one tf.data pipeline: read, look at the header, decode, judge.

Every file gives exactly one record. A file that falls out of the pipeline is looked at singly, in
Python, for the words of its error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from components.sources.base import Item, Source
from components.sources.header import probe
from models import feature_names as names
from models import preprocess

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class FileRecord:
    """Everything known of one file; turned into one tf.Example by `to_example`."""

    item: Item
    data: bytes
    image_hash: str  # hex SHA-256, "" when it could not be read
    header: Mapping[str, Any]  # a `Header` as dict
    size: tuple[int, int] | None  # (width, height) in pixels as decoded, None when not decoded
    read_error: str = ""
    decode_error: str = ""


def first_line(error: BaseException) -> str:
    """TensorFlow's message without graph node names and op suffixes."""
    text = str(getattr(error, "message", None) or error)
    text = re.sub(r"\{\{[^}]*\}\}|\[Op:\w+\]( name:)?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def decode_error(data: bytes) -> tuple[tuple[int, int] | None, str]:
    """((width, height), "") when the serving op decodes `data`, else (None, why not)."""
    import tensorflow as tf

    if not data:
        return None, "the file is empty"
    try:
        with tf.device("cpu"):
            shape = preprocess.decode(tf.constant(data)).shape
    except tf.errors.OpError as error:
        return None, first_line(error)
    return (int(shape[1]), int(shape[0])), ""


def _look(source: Source, item: Item, pixel_limit: int) -> tuple[bytes, dict[str, Any]]:
    """Bytes and facts of one file, without decoding: hash, header, why it could not be read."""
    try:
        data = source.read(item)
    except OSError as error:
        facts = {"hash": "", "header": asdict(probe(b"", pixel_limit))}
        return b"", facts | {"error": error.strerror or str(error)}
    header = asdict(probe(data, pixel_limit))
    return data, {"hash": hashlib.sha256(data).hexdigest(), "header": header, "error": ""}


def _over_limit(width: int, height: int, pixel_limit: int) -> str:
    """Why such an image is not even decoded; "" when it may be."""
    if width * height <= pixel_limit:
        return ""
    return f"not decoded: {width} x {height} pixels are over the limit of {pixel_limit:,}"


def read_files(source: Source, items: Sequence[Item], pixel_limit: int) -> Iterator[FileRecord]:
    """One record an item, in the order of `items`; a few files are in memory at a time.

    `pixel_limit` (pixels, by the header) decides what is handed to the decoder at all.
    """
    expected = 0
    for index, data, facts, size in _pipeline(source, items, pixel_limit):
        for fallen in range(expected, index):
            yield _singly(source, items[fallen], pixel_limit)
        expected = index + 1
        yield _record(items[index], data, facts, size, pixel_limit)
    for fallen in range(expected, len(items)):
        yield _singly(source, items[fallen], pixel_limit)


def _pipeline(
    source: Source, items: Sequence[Item], pixel_limit: int
) -> Iterator[tuple[int, bytes, dict[str, Any], tuple[int, int] | None]]:
    """The tf.data part; files that the op cannot decode are missing from what it yields."""
    import tensorflow as tf

    def look(index: Any) -> tuple[bytes, bytes, bool]:
        data, facts = _look(source, items[int(index)], pixel_limit)
        header = facts["header"]
        decode = bool(data) and header["width"] * header["height"] <= pixel_limit
        return data, json.dumps(facts).encode(), decode

    def decode(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        data, facts, wanted = tf.numpy_function(look, [index], [tf.string, tf.string, tf.bool])
        data, wanted = tf.ensure_shape(data, []), tf.ensure_shape(wanted, [])
        shape = tf.cond(
            wanted,
            lambda: tf.shape(preprocess.decode(data))[:2],
            lambda: tf.constant([-1, -1], tf.int32),
        )
        return index, data, facts, shape

    options = tf.data.Options()
    options.deterministic = True
    with tf.device("cpu"):
        dataset = (
            tf.data.Dataset.range(len(items))
            .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
            .ignore_errors()
            .with_options(options)
        )
        for index, data, facts, shape in dataset.as_numpy_iterator():
            size = None if shape[0] < 0 else (int(shape[1]), int(shape[0]))
            yield int(index), data, json.loads(facts), size


def _singly(source: Source, item: Item, pixel_limit: int) -> FileRecord:
    """Look again at one file that fell out, this time for the error's text."""
    data, facts = _look(source, item, pixel_limit)
    header = facts["header"]
    if not data or _over_limit(header["width"], header["height"], pixel_limit):
        return _record(item, data, facts, None, pixel_limit)
    size, error = decode_error(data)
    return _record(item, data, facts, size, pixel_limit, error)


def _record(
    item: Item,
    data: bytes,
    facts: Mapping[str, Any],
    size: tuple[int, int] | None,
    pixel_limit: int,
    error: str = "",
) -> FileRecord:
    header = facts["header"]
    if size is None and not error:
        if facts["error"]:
            error = "the file could not be read"
        elif not data:
            error = "the file is empty"
        else:
            error = _over_limit(header["width"], header["height"], pixel_limit)
    return FileRecord(item, data, facts["hash"], header, size, facts["error"], error)


def to_example(record: FileRecord, split: str, vocabulary: Sequence[str]) -> tf.train.Example:
    """The tf.Example of one file: all features of `models.feature_names` that ingest can know."""
    item, header = record.item, record.header
    width, height = record.size or (header["width"], header["height"])
    label = item.label or ""
    index = vocabulary.index(label) if label in vocabulary else -1
    return make_example(
        {
            names.IMAGE_BYTES: record.data,
            names.LABEL: label,
            names.LABEL_INDEX: index,
            names.SPLIT: split,
            names.PATH: item.path,
            names.IMAGE_HASH: record.image_hash,
            names.WIDTH: width,
            names.HEIGHT: height,
            names.CHANNELS: header["channels"],
            names.FORMAT: header["format"],
            names.MODE: header["mode"],
            names.BYTE_SIZE: len(record.data),
            names.FRAMES: header["frames"],
            names.ORIENTATION: header["orientation"],
            names.ASPECT_RATIO: width / height if height else 0.0,
            names.READ_ERROR: record.read_error,
            names.DECODE_ERROR: record.decode_error,
            names.SYMLINK: int(item.symlink),
            names.GROUP: item.group or "",
            names.PROBLEM: item.problem,
        }
    )


def make_example(values: Mapping[str, str | bytes | int | float]) -> tf.train.Example:
    """A tf.Example with one value a feature; text becomes UTF-8, odd file names survive."""
    import tensorflow as tf

    example = tf.train.Example()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode("utf-8", "surrogateescape"))
        elif isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return example
