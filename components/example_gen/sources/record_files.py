"""TFRecord and ArrayRecord files of tf.Examples: an index of the records, and reading of one.

One pass finds the records, while TensorFlow verifies their checksums; afterwards each record is
read by its offset. TensorFlow is imported when a file is opened, not when this module is imported.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from imgpipe.components.example_gen.sources.base import SourceOptions
from imgpipe.components.example_gen.sources.layout import some
from imgpipe.components.example_gen.sources.local_files import BYTE_LIMIT, cached_until_changed
from imgpipe.components.example_gen.sources.seekable_gzip import shared
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular

if TYPE_CHECKING:
    import tensorflow as tf

#: Common names of the features that hold the encoded image, the label and the path.
IMAGE_FEATURES = (
    *("image_bytes", "image/encoded", "image", "encoded_image", "image_raw"),
    *("jpeg", "jpg", "png", "image_data"),
)
LABEL_FEATURES = (
    *("label", "class", "image/class/text", "image/class/label", "image/label", "target"),
)
PATH_FEATURES = ("path", "image/filename", "filename", "file_name")
#: Bytes around a TFRecord: its length with a checksum, and a checksum of the data
#: (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
_HEADER, _FOOTER = 12, 4
_ARRAY_RECORD = ".array_record"
_GZIP_MAGIC = b"\x1f\x8b\x08"  # RFC 1952, 2.3.1: two fixed bytes, and 8 for deflate
_FRAME = _HEADER + _FOOTER
_FIRST = 100  # records in which the features are looked for
_FILES_KEPT = 1024  # cached indexes of files, because a source is listed up to three times


@dataclass(frozen=True)
class Fields:
    """Names of the features of a record, "" for features that are absent."""

    image: str
    label: str = ""
    path: str = ""
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Entry:
    """Position of a record, and its features besides the image."""

    offset: int  # first byte of the data in the unpacked file; in an ArrayRecord its index
    length: int  # bytes; -1 in an ArrayRecord
    label: str | int | None
    path: str
    split: str
    group: str


def fields_of(path: str, options: SourceOptions) -> Fields | None:
    """Find the names of the features in the first records of a file.

    Args:
        path: Path of the file.
        options: Options, which may name the features.

    Returns:
        The names, or None when the file has no record.

    Raises:
        ConfigError: There is no feature for the image, or one of the options is missing.
    """
    kinds: dict[str, str] = {}
    number = -1
    # Several, because records may omit features that have no value.
    for number, (_, _, record) in enumerate(itertools.islice(_records(path), _FIRST)):
        for name, value in sorted(_parse(record, path, number).features.feature.items()):
            kinds.setdefault(name, value.WhichOneof("kind") or "empty")
    return _fields(path, kinds, options) if number >= 0 else None


def _fields(path: str, kinds: Mapping[str, str], options: SourceOptions) -> Fields:

    def choose(wanted: str, usual: Sequence[str], key: str, required: bool) -> str:
        for name in (wanted,) if wanted else usual:
            if name in kinds:
                return name
        if not required and not wanted:
            return usual[0] if len(usual) == 1 else ""  # later records may have it
        shown = some([f"{name} ({kind})" for name, kind in kinds.items()], 12)
        lacking = repr(wanted) if wanted else f"for the image ({', '.join(usual)})"
        raise ConfigError(
            f"data source {path!r} has no feature {lacking}; found {shown}; name it by data.{key}"
        )

    return Fields(
        choose(options.image_column, IMAGE_FEATURES, "image_column", True),
        choose(options.label_column, LABEL_FEATURES, "label_column", False),
        choose("", PATH_FEATURES, "path_column", False),
        choose(options.split_column, ("split",), "split_column", False),
        choose(options.group_column, ("group",), "group_column", False),
    )


@cached_until_changed(_FILES_KEPT)
def index(path: str, fields: Fields) -> tuple[Entry, ...]:
    """Index all records of a file.

    Args:
        path: Path of the file.
        fields: Names of the features, as `fields_of` returns them.

    Raises:
        ConfigError: The file is cut off or damaged.
    """
    entries = []
    for number, (offset, length, record) in enumerate(_records(path)):
        example = _parse(record, path, number)
        texts = [_as_text(example, name) for name in (fields.path, fields.split, fields.group)]
        entries.append(Entry(offset, length, _value(example, fields.label), *texts))
    return tuple(entries)


def image_of(path: str, offset: int, length: int, feature: str) -> bytes:
    """Read the encoded image of one record.

    Args:
        path: Path of the file.
        offset: `Entry.offset` of the record.
        length: `Entry.length` of the record.
        feature: Name of the feature that holds the image.

    Raises:
        OSError: The record cannot be read or holds no image.
    """
    example = _parse(_read(path, offset, length), path, offset)
    values = example.features.feature[feature].bytes_list.value
    if len(values) != 1:
        raise OSError(f"the record has {len(values)} values of {feature!r}, expected one")
    return bytes(values[0])


def _value(example: tf.train.Example, name: str) -> str | int | None:
    """Return a feature as text or number, None when it is absent or empty."""
    feature = example.features.feature.get(name) if name else None
    kind = feature.WhichOneof("kind") if feature is not None else None
    values: Sequence[Any] = getattr(feature, kind).value if kind else ()
    if len(values) != 1:
        return None
    value = values[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace") or None
    return int(value) if float(value).is_integer() else str(value)


def _as_text(example: tf.train.Example, name: str) -> str:
    value = _value(example, name)
    return "" if value is None else str(value)


def _parse(record: bytes, path: str, number: int) -> tf.train.Example:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(record)
    except DecodeError:
        raise ConfigError(
            f"data source {path!r}: record {number} is not a tf.Example; expected records with the "
            "encoded image and its label as features"
        ) from None


def _records(path: str) -> Iterator[tuple[int, int, bytes]]:
    """Iterate over the records in order, as (offset, length, data)."""
    if _ARRAY_RECORD in Path(path).name:  # numbers follow: .array_record-00000-of-00002
        reader = _array_record(path)
        for number in range(reader.num_records()):
            yield number, -1, reader.read([number])[0]
        return
    yield from _tfrecords(path)


def _tfrecords(path: str) -> Iterator[tuple[int, int, bytes]]:
    import tensorflow as tf

    offset = number = 0
    packed = is_packed(path)
    _check_lengths(path, packed)
    try:
        with tf.device("cpu"):
            records = tf.data.TFRecordDataset(path, "GZIP" if packed else "")
            for record in records.as_numpy_iterator():
                yield offset + _HEADER, len(record), record
                offset += _FRAME + len(record)
                number += 1
    except tf.errors.DataLossError as error:
        raise _damaged(path, number, offset, error.message) from None
    except tf.errors.OpError as error:
        raise ConfigError(f"data source {path!r} cannot be read: {error.message}") from None


def _check_lengths(path: str, packed: bool) -> None:
    """ConfigError for a record whose length exceeds the file or the limit of an image.

    TensorFlow allocates the length in a record's header before it reads the data. A length of 2^40
    with a valid checksum would end the process.
    """
    offset = number = 0
    with open_regular(Path(path)) as file:
        size = None if packed else os.fstat(file.fileno()).st_size
        while len(head := _part(path, file, packed, offset)) == _HEADER:
            (length,) = struct.unpack("<Q", head[:8])
            if length > BYTE_LIMIT:
                what = f"claims {length:,} bytes, over the limit of {BYTE_LIMIT >> 20} MiB"
            elif size is not None and offset + _FRAME + length > size:
                what = f"claims {length:,} bytes and {size - offset - _HEADER:,} are left"
            else:
                offset, number = offset + _FRAME + length, number + 1
                continue
            raise _damaged(path, number, offset, what)
        if head:
            raise _damaged(path, number, offset, f"{len(head)} of {_HEADER} bytes of its header")


def _part(path: str, file: BinaryIO, packed: bool, offset: int) -> bytes:
    """Return the header of the record at an unpacked offset."""
    if not packed:
        return os.pread(file.fileno(), _HEADER, offset)
    try:
        return shared(path).pread(_HEADER, offset)
    except OSError as error:
        raise ConfigError(f"data source {path!r}: {error}; write or download it again") from None


def _damaged(path: str, number: int, offset: int, what: str) -> ConfigError:
    return ConfigError(
        f"data source {path!r} is cut off, damaged or not a TFRecord file: record {number} at "
        f"byte {offset:,} cannot be read ({what}); write or download it again"
    )


def is_packed(path: str) -> bool:
    """Whether a TFRecord file is compressed with gzip, from its first bytes."""
    with Path(path).open("rb") as file:
        if file.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC:
            return False
    # The length of an uncompressed record may begin with the same bytes, as 559,903 does.
    try:
        return len(shared(path).pread(_HEADER, 0)) == _HEADER
    except OSError:
        return False


def _read(path: str, offset: int, length: int) -> bytes:
    if length < 0:
        return bytes(_array_record(path).read([offset])[0])
    if is_packed(path):
        data = shared(path).pread(length, offset)
    else:
        with Path(path).open("rb") as file:
            data = os.pread(file.fileno(), length, offset)
    if len(data) < length:
        raise OSError(f"the file is cut off: {len(data):,} of {length:,} bytes")
    return data


@cached_until_changed(16)
def _array_record(path: str) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(path)
