"""One shard of a source through one tf.data pipeline: read, look at the header, decode, judge.

Every file gives exactly one record. A file that falls out of the pipeline is looked at singly, in
Python, for the words of its error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.records import make
from components.sources.base import Item, Source
from components.sources.header import probe
from components.sources.measuring import Measurements, measure
from components.sources.verdicts import Verdicts
from models import feature_names as names
from models import preprocess

if TYPE_CHECKING:
    import tensorflow as tf

_WITH_ALPHA = ("RGBA", "LA", "PA")  # Pillow's modes


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
    measured: Measurements | None = None  # None when not decoded


def first_line(error: BaseException) -> str:
    """TensorFlow's message without graph node names and op suffixes."""
    text = str(getattr(error, "message", None) or error)
    text = re.sub(r"\{\{[^}]*\}\}|\[Op:\w+\]( name:)?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def decode_error(data: bytes) -> tuple[tuple[int, int] | None, str]:
    """((width, height), "") when the serving op decodes `data`, else (None, why not)."""
    pixels, error = _decoded(data)
    return (None if pixels is None else (pixels.shape[1], pixels.shape[0])), error


def measured(data: bytes) -> tuple[tuple[int, int], Measurements] | None:
    """((width, height), figures) of what the serving op decodes, None when it does not."""
    pixels, _ = _decoded(data)
    return None if pixels is None else ((pixels.shape[1], pixels.shape[0]), measure(pixels))


def _decoded(data: bytes) -> tuple[np.ndarray | None, str]:
    import tensorflow as tf

    if not data:
        return None, "the file is empty"
    try:
        with tf.device("cpu"):
            return preprocess.decode(tf.constant(data)).numpy(), ""
    except tf.errors.OpError as error:
        return None, first_line(error)


def _look(
    source: Source, item: Item, pixel_limit: int, verdicts: Verdicts
) -> tuple[bytes, dict[str, Any]]:
    """Bytes and facts of one file, without decoding: hash, header, why it could not be read.

    `known` holds what an earlier run found out of the same content.
    """
    try:
        data = source.read(item)
    except OSError as error:
        facts = {"hash": "", "header": asdict(probe(b"", pixel_limit)), "known": None}
        return b"", facts | {"error": error.strerror or str(error)}
    image_hash = hashlib.sha256(data).hexdigest()
    known = verdicts.get(image_hash)
    header = known["header"] if known else asdict(probe(data, pixel_limit))
    return data, {"hash": image_hash, "header": header, "error": "", "known": known}


def _over_limit(width: int, height: int, pixel_limit: int) -> str:
    """Why such an image is not even decoded; "" when it may be."""
    if width * height <= pixel_limit:
        return ""
    return f"not decoded: {width} x {height} pixels are over the limit of {pixel_limit:,}"


def read_files(
    source: Source, items: Sequence[Item], pixel_limit: int, store: str = ""
) -> Iterator[FileRecord]:
    """One record an item, in the order of `items`; a few files are in memory at a time.

    `pixel_limit` (pixels, by the header) decides what is handed to the decoder at all. `store` is
    the folder of the kept verdicts, "" to look at every file anew.
    """
    expected = 0
    with Verdicts(store, pixel_limit) as verdicts:
        for index, data, facts, found in _pipeline(source, items, pixel_limit, verdicts):
            for fallen in range(expected, index):
                yield _singly(source, items[fallen], pixel_limit, verdicts)
            expected = index + 1
            yield _record(items[index], data, facts, found, pixel_limit, verdicts)
        for fallen in range(expected, len(items)):
            yield _singly(source, items[fallen], pixel_limit, verdicts)


@dataclass(frozen=True)
class _Found:
    """What decoding one file came to."""

    size: tuple[int, int] | None = None  # (width, height) in pixels
    error: str = ""
    measured: Measurements | None = None

    @classmethod
    def of(cls, shape: Sequence[int], figures: Sequence[float]) -> _Found:
        """From the outputs of the tf.data part; empty ones when nothing was decoded."""
        if not len(figures):
            return cls()
        return cls((int(shape[1]), int(shape[0])), "", Measurements(*map(float, figures)))


def _has_alpha(data: bytes, header: Mapping[str, Any]) -> bool:
    """Whether the picture may have pixels that are not opaque, of those that the op decodes so.

    It refuses WebP with an alpha channel, and a GIF's transparent colour is mostly its page.
    """
    if header["format"] != "PNG":
        return False
    return header["mode"] in _WITH_ALPHA or b"tRNS" in data[: max(data.find(b"IDAT"), 0)]


def _pipeline(
    source: Source, items: Sequence[Item], pixel_limit: int, verdicts: Verdicts
) -> Iterator[tuple[int, bytes, dict[str, Any], _Found]]:
    """The tf.data part; files that the op cannot decode are missing from what it yields."""
    import tensorflow as tf

    def look(index: Any) -> tuple[bytes, bytes, bool, bool]:
        data, facts = _look(source, items[int(index)], pixel_limit, verdicts)
        header = facts["header"]
        fits = header["width"] * header["height"] <= pixel_limit
        decode = bool(data) and fits and not facts["known"]
        return data, json.dumps(facts).encode(), decode, _has_alpha(data, header)

    def figures(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        return np.array(astuple(measure(pixels, alpha)), np.float64)

    def pixels_of(data: tf.Tensor, has_alpha: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = preprocess.decode(data)
        alpha = tf.cond(
            has_alpha,
            lambda: tf.reshape(tf.io.decode_png(data, channels=4)[..., 3], [-1]),
            lambda: tf.zeros([0], tf.uint8),
        )
        return tf.shape(pixels)[:2], tf.numpy_function(figures, [pixels, alpha], tf.float64)

    def decode(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        looked = tf.numpy_function(look, [index], [tf.string, tf.string, tf.bool, tf.bool])
        data, facts, wanted, alpha = (tf.ensure_shape(value, []) for value in looked)
        shape, found = tf.cond(
            wanted,
            lambda: pixels_of(data, alpha),
            lambda: (tf.zeros([2], tf.int32), tf.zeros([0], tf.float64)),
        )
        return index, data, facts, shape, found

    options = tf.data.Options()
    options.deterministic = True
    with tf.device("cpu"):
        dataset = (
            tf.data.Dataset.range(len(items))
            .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
            .ignore_errors()
            .with_options(options)
        )
        for index, data, facts, shape, found in dataset.as_numpy_iterator():
            yield int(index), data, json.loads(facts), _Found.of(shape, found)


def _singly(source: Source, item: Item, pixel_limit: int, verdicts: Verdicts) -> FileRecord:
    """Look again at one file that fell out, this time for the error's text."""
    data, facts = _look(source, item, pixel_limit, verdicts)
    header, found = facts["header"], _Found()
    if data and not _over_limit(header["width"], header["height"], pixel_limit):
        pixels, error = _decoded(data)
        found = _Found(error=error)
        if pixels is not None:
            found = _Found((pixels.shape[1], pixels.shape[0]), "", measure(pixels))
    return _record(item, data, facts, found, pixel_limit, verdicts)


def _record(
    item: Item,
    data: bytes,
    facts: Mapping[str, Any],
    found: _Found,
    pixel_limit: int,
    verdicts: Verdicts,
) -> FileRecord:
    header, image_hash, known = facts["header"], facts["hash"], facts["known"]
    if known:
        figures = known["measured"]
        size = tuple(known["size"]) if known["size"] else None
        found = _Found(size, known["error"], Measurements(*figures) if figures else None)
    elif found.size is None and not found.error:
        found = _Found(error=_why_not_decoded(data, facts, pixel_limit))
    if not known:
        figures = astuple(found.measured) if found.measured else None
        kept = {"header": header, "size": found.size, "error": found.error, "measured": figures}
        verdicts.put(image_hash, kept)
    return FileRecord(
        item, data, image_hash, header, found.size, facts["error"], found.error, found.measured
    )


def _why_not_decoded(data: bytes, facts: Mapping[str, Any], pixel_limit: int) -> str:
    if facts["error"]:
        return "the file could not be read"
    if not data:
        return "the file is empty"
    return _over_limit(facts["header"]["width"], facts["header"]["height"], pixel_limit)


def to_example(record: FileRecord, split: str, vocabulary: Sequence[str]) -> tf.train.Example:
    """The tf.Example of one file: all features of `models.feature_names` that ingest can know."""
    item, header = record.item, record.header
    width, height = record.size or (header["width"], header["height"])
    label = item.label or ""
    index = vocabulary.index(label) if label in vocabulary else -1
    return make(
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
            **(record.measured.features() if record.measured else {}),
        }
    )
