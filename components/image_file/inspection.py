"""One shard of a source through one tf.data pipeline: read, look at the header, decode, judge.

Every file gives exactly one record. A file that falls out of the pipeline is looked at singly, in
Python, for the words of its error.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.components.example_gen.sources.base import Item, Source
from imgpipe.components.image_file.header import probe
from imgpipe.components.image_file.inspection_cache import Verdicts
from imgpipe.components.image_file.measurements import Measurements, measure
from imgpipe.components.image_file.perceptual_hash import picture_hashes
from imgpipe.components.image_file.reduction import shrink
from imgpipe.components.records import make
from imgpipe.models import feature_names as names
from imgpipe.models import preprocess

if TYPE_CHECKING:
    import tensorflow as tf

_WITH_ALPHA = ("RGBA", "LA", "PA")  # Pillow's modes
_AT_ONCE = 8  # files handed to tf.data together: each handing over takes a tenth of a millisecond


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
    likeness: bytes | None = None  # `perceptual.picture_hashes`, None when not decoded


def first_line(error: BaseException) -> str:
    """TensorFlow's message without graph node names and op suffixes."""
    text = str(getattr(error, "message", None) or error)
    text = re.sub(r"\{\{[^}]*\}\}|\[Op:\w+\]( name:)?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@dataclass(frozen=True)
class Look:
    """What decoding one file came to."""

    size: tuple[int, int] | None = None  # (width, height) in pixels
    error: str = ""
    measured: Measurements | None = None
    likeness: bytes | None = None

    @classmethod
    def at(cls, pixels: np.ndarray, alpha: np.ndarray | None = None) -> Look:
        """Look at an image: uint8 [H, W, 3], and its alpha channel where it has one."""
        small = shrink(pixels)
        figures = measure(pixels, alpha, small)
        return cls((pixels.shape[1], pixels.shape[0]), "", figures, picture_hashes(small))


def look_at(data: bytes) -> Look:
    """What the serving op makes of `data`."""
    pixels, error = _decoded(data)
    return Look(error=error) if pixels is None else Look.at(pixels)


def _decoded(data: bytes) -> tuple[np.ndarray | None, str]:
    import tensorflow as tf

    if not data:
        return None, "the file is empty"
    try:
        with tf.device("cpu"):
            return preprocess.decode(tf.constant(data)).numpy(), ""
    except tf.errors.OpError as error:
        return None, first_line(error)


@dataclass(frozen=True)
class _Facts:
    """What is known of one file before it is decoded."""

    image_hash: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""  # why it could not be read
    known: Mapping[str, Any] | None = None  # what an earlier run found out of the same content


def _look(source: Source, item: Item, pixel_limit: int, verdicts: Verdicts) -> tuple[bytes, _Facts]:
    """Bytes and facts of one file, without decoding."""
    try:
        data = source.read(item)
    except OSError as error:
        facts = _Facts(header=asdict(probe(b"", pixel_limit)), error=error.strerror or str(error))
        return b"", facts
    image_hash = hashlib.sha256(data).hexdigest()
    known = verdicts.get(image_hash)
    header = known["header"] if known else asdict(probe(data, pixel_limit))
    return data, _Facts(image_hash, header, known=known)


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
        for index, data, facts, look in _pipeline(source, items, pixel_limit, verdicts):
            for fallen in range(expected, index):
                yield _singly(source, items[fallen], pixel_limit, verdicts)
            expected = index + 1
            yield _record(items[index], data, facts, look, pixel_limit, verdicts)
        for fallen in range(expected, len(items)):
            yield _singly(source, items[fallen], pixel_limit, verdicts)


def _has_alpha(data: bytes, header: Mapping[str, Any]) -> bool:
    """Whether the picture may have pixels that are not opaque, of those that the op decodes so.

    It refuses WebP with an alpha channel, and a GIF's transparent colour is mostly its page.
    """
    if header["format"] != "PNG":
        return False
    return header["mode"] in _WITH_ALPHA or b"tRNS" in data[: max(data.find(b"IDAT"), 0)]


def _alpha(data: bytes, header: Mapping[str, Any]) -> np.ndarray | None:
    """The alpha channel of a PNG, uint8 [H, W]; None where it has none that can be read."""
    import tensorflow as tf

    if not _has_alpha(data, header):
        return None
    try:
        with tf.device("cpu"):
            return np.asarray(tf.io.decode_png(tf.constant(data), channels=4)[..., 3])
    except tf.errors.OpError:
        return None


def _pipeline(
    source: Source, items: Sequence[Item], pixel_limit: int, verdicts: Verdicts
) -> Iterator[tuple[int, bytes, _Facts, Look]]:
    """The tf.data part; files that the op cannot decode are missing from what it yields."""
    import tensorflow as tf

    facts: dict[int, _Facts] = {}

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for start in range(0, len(items), _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, len(items)))
            read, wanted = [], []
            for number in numbers:
                data, found = _look(source, items[number], pixel_limit, verdicts)
                facts[number] = found
                fits = found.header["width"] * found.header["height"] <= pixel_limit
                read.append(data)
                wanted.append(bool(data) and fits and not found.known)
            yield np.array(numbers), np.array(read, object), np.array(wanted)

    def decode(index: tf.Tensor, data: tf.Tensor, wanted: tf.Tensor) -> tuple[tf.Tensor, ...]:
        empty = tf.zeros([0, 0, 3], tf.uint8)
        return index, data, tf.cond(wanted, lambda: preprocess.decode(data), lambda: empty)

    options = tf.data.Options()
    options.deterministic = True
    kinds = tuple(tf.TensorSpec([None], kind) for kind in (tf.int64, tf.string, tf.bool))
    with tf.device("cpu"):
        dataset = (
            tf.data.Dataset.from_generator(parts, output_signature=kinds)
            .unbatch()
            .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
            .ignore_errors()
            .with_options(options)
        )
        for number, data, pixels in dataset.as_numpy_iterator():
            found, look = facts.pop(int(number)), Look()
            if pixels.size:
                look = Look.at(pixels, _alpha(data, found.header))
            yield int(number), data, found, look


def _singly(source: Source, item: Item, pixel_limit: int, verdicts: Verdicts) -> FileRecord:
    """Look again at one file that fell out, this time for the error's text."""
    data, facts = _look(source, item, pixel_limit, verdicts)
    look = Look()
    if data and not _over_limit(facts.header["width"], facts.header["height"], pixel_limit):
        look = look_at(data)
    return _record(item, data, facts, look, pixel_limit, verdicts)


def _record(
    item: Item, data: bytes, facts: _Facts, look: Look, pixel_limit: int, verdicts: Verdicts
) -> FileRecord:
    if facts.known:
        look = _remembered(facts.known)
    elif look.size is None and not look.error:
        look = Look(error=_why_not_decoded(data, facts, pixel_limit))
    if not facts.known:
        verdicts.put(facts.image_hash, _to_remember(facts.header, look))
    return FileRecord(
        item,
        data,
        facts.image_hash,
        facts.header,
        look.size,
        facts.error,
        look.error,
        look.measured,
        look.likeness,
    )


def _to_remember(header: Mapping[str, Any], look: Look) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "header": header,
        "size": look.size,
        "error": look.error,
        "measured": astuple(look.measured) if look.measured else None,
        "likeness": None if look.likeness is None else base64.b64encode(look.likeness).decode(),
    }


def _remembered(kept: Mapping[str, Any]) -> Look:
    likeness = kept["likeness"]
    return Look(
        tuple(kept["size"]) if kept["size"] else None,
        kept["error"],
        Measurements(*kept["measured"]) if kept["measured"] else None,
        None if likeness is None else base64.b64decode(likeness),
    )


def _why_not_decoded(data: bytes, facts: _Facts, pixel_limit: int) -> str:
    if facts.error:
        return "the file could not be read"
    if not data:
        return "the file is empty"
    return _over_limit(facts.header["width"], facts.header["height"], pixel_limit)


def to_example(record: FileRecord, split: str, vocabulary: Sequence[str]) -> tf.train.Example:
    """The tf.Example of one file: all the features that ingestion knows."""
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
            **({} if record.likeness is None else {names.LIKENESS: record.likeness}),
        }
    )
