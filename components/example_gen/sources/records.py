"""TFRecord files of tf.Examples with an encoded image as a source: a file, a folder or a pattern.

One pass verifies the checksums and indexes the records; afterwards each record is read by its
offset. TensorFlow is imported when a file is opened, not when this module is imported.
"""

from __future__ import annotations

import collections
import itertools
import os
import re
import shlex
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from imgpipe.components.common.formatting import join_names
from imgpipe.components.example_gen.sources import local_files, tables
from imgpipe.components.example_gen.sources.base import Item, SourceKind
from imgpipe.components.example_gen.sources.rows import (
    RowFiles,
    SourceRow,
    SourceTable,
)
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.settings.data import DataSettings

if TYPE_CHECKING:
    import tensorflow as tf

#: Bytes before a TFRecord, its length with a checksum
#: (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
_HEADER = 12
_FOOTER = 4  # bytes after a TFRecord, a checksum of the data
_FIRST = 100  # records in which the features are looked for
_SHOWN = 8  # of several values
_FILES_KEPT = 1024  # cached indexes of files, because a source is listed up to three times
#: Names of record files: x.tfrecord, x.tfrec, data_tfrecord-00000-of-00010.gz.
RECORD_FILE = re.compile(r"(tfrecords?|\.tfrec)(-[\d?*]+-of-[\d?*]+)?(\.gz)?$", re.IGNORECASE)
#: Number and total of a part, as in x.tfrecord-00002-of-00004.
_PART = re.compile(r"(.*)-(\d+)-of-(\d+)([^/\d][^/]*|)")
_EXPECTED = (
    "expected TFRecord files of tf.Examples with an encoded image and its label; name other "
    "features by data.image_column and data.label_column"
)


def takes(locator: str, options: DataSettings) -> bool:
    """Whether a plain path names record files, or a folder of them without a sub-folder."""
    path = Path(locator).expanduser()
    if path.is_dir():
        entries = local_files.visible(path)
        has_records = any(RECORD_FILE.search(entry.name) for entry in entries)
        return has_records and not any(entry.is_dir() for entry in entries)
    return ".tfrec" in locator.lower() or RECORD_FILE.search(locator.rstrip("*")) is not None


class Features(NamedTuple):
    """Names of the features of a record by their roles, "" for features that are absent."""

    image: str
    label: str
    name: str
    split: str
    group: str


class RecordSource(RowFiles):
    """Files on a local or mounted file system, with or without gzip compression.

    Folders below count, too, as in Examples artifacts: Split-train/data_tfrecord-….
    """

    names = RECORD_FILE
    expected = _EXPECTED

    def table(self, file: Path, name: str) -> SourceTable:
        """Return a row for each record of a file."""
        plain = _plain(str(file), self.store)
        features = _features(plain, str(file), self.options)
        rows = index(plain, features, str(file)) if features else ()
        return SourceTable(name, [placed(row, name, number) for number, row in enumerate(rows)])

    def read_row(self, item: Item) -> bytes:
        """Read the encoded image of one record; see `Source.read`."""
        return read_locator(item.locator, self.store)

    def check(self, files: Sequence[Path]) -> None:
        """Raise a ConfigError if parts are missing of which the names of the others tell."""
        present: dict[tuple[str, ...], set[int]] = collections.defaultdict(set)
        for file in files:
            match = _PART.fullmatch(str(file))
            if match:
                start, number, *rest = match.groups()
                present[start, *rest].add(int(number))
        for (start, total, ending), numbers in present.items():
            count = int(total)
            first = int(count in numbers)  # parts are counted from 0 or from 1
            missing = next((n for n in range(first, count + first) if n not in numbers), None)
            if missing is not None:
                name = f"{Path(start).name}-{missing:0{len(total)}d}-of-{total}{ending}"
                pattern = shlex.quote(f"{start}-*-of-{total}{ending}")
                raise ConfigError(
                    f"data source {self.locator!r}: {len(numbers)} of {count:,} parts are here, "
                    f"and {name} is missing. Copy or download it again; or read the parts that are "
                    f"here: imgpipe check {pattern}"
                )


def read_locator(locator: str, store: str = "") -> bytes:
    """Read the image of an `Item.locator`, or raise an OSError.

    `store` is the folder in which compressed files are unpacked.
    """
    offset, length, rest = locator.split(":", 2)
    feature, _, file = rest.partition(":")  # a colon in the feature is quoted
    data = read_part(Path(_plain(file, store)), int(offset), int(length))
    values = _parse(data, file, int(offset)).features.feature[unquote(feature)].bytes_list.value
    if len(values) != 1:
        raise OSError(f"the record has {len(values)} values of {unquote(feature)!r}, expected one")
    return bytes(values[0])


def read_part(file: Path, offset: int, length: int) -> bytes:
    """Read some bytes of a file; one that has fewer is an OSError."""
    with file.open("rb") as stream:
        data = os.pread(stream.fileno(), length, offset)
    if len(data) < length:
        raise OSError(f"the file is cut off: {len(data):,} of {length:,} bytes")
    return data


@local_files.cached_until_changed(_FILES_KEPT)
def index(path: str, features: Features, name: str) -> tuple[SourceRow, ...]:
    """Return a row for each record of an unpacked file, which has this name in messages.

    The path of a row is the name of its image in the record, "" for none. A file that is cut off or
    damaged is a ConfigError.
    """
    rows = []
    for number, (offset, length, example) in enumerate(_examples(path, name)):
        file, _ = local_files.safe_path(_text(example, features.name))
        locator = f"{offset}:{length}:{quote(features.image)}:{name}"
        said = (_text(example, name) for name in (features.label, features.split, features.group))
        rows.append(SourceRow(f"record {number}", file, locator, *said))
    return tuple(rows)


def placed(row: SourceRow, folder: str, number: int) -> SourceRow:
    """Return a row of `index` with the path of the record with a number in a folder."""
    return row._replace(path=f"{folder}/{number:08d}/{row.path}".rstrip("/"))


def _features(path: str, name: str, options: DataSettings) -> Features | None:
    """Find the names of the features in the first records of a file; None if it has none."""
    seen: dict[str, None] = {}
    # Several, because records may omit features that have no value.
    for _, _, example in itertools.islice(_examples(path, name), _FIRST):
        seen |= dict.fromkeys(sorted(example.features.feature))
    if not seen:
        return None
    features = find_features(name, list(seen), options)
    if not features.image:
        shown = join_names(list(seen), 12)
        raise ConfigError(
            f"data source {name!r}: none of its features {shown} is an image; {_EXPECTED}"
        )
    # Later records may have the only feature of a role.
    return Features(*(feature or role for role, feature in features._asdict().items()))


def find_features(where: str, names: Sequence[str], options: DataSettings) -> Features:
    """Find the features of a record by settings or usual names; "" for those that are absent."""
    places = tables.find_columns(where, names, options, Features._fields)
    return Features(*(names[place] if place >= 0 else "" for place in places.values()))


def _text(example: tf.train.Example, feature: str) -> str:
    """Return the value of a feature, "" for none; of several the first ones, in brackets."""
    values = example.features.feature.get(feature)
    kind = values.WhichOneof("kind") if values is not None else None
    texts = []
    for value in getattr(values, kind).value[:_SHOWN] if kind else ():
        if isinstance(value, bytes):
            texts.append(value.decode("utf-8", "replace"))
        else:
            texts.append(str(int(value) if float(value).is_integer() else value))
    return f"[{', '.join(texts)}]" if len(texts) > 1 else "".join(texts)


def _examples(path: str, name: str) -> Iterator[tuple[int, int, tf.train.Example]]:
    """Iterate over the records of a file that has to be whole: offset, length and content."""
    try:
        for number, (offset, record) in enumerate(verified(Path(path))):
            yield offset, len(record), _parse(record, name, number)
    except DamagedRecordError as error:
        raise ConfigError(
            f"data source {name!r} is cut off, damaged or not a TFRecord file: {error}; write or "
            "download it again"
        ) from None


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


def _plain(file: str, store: str) -> str:
    """Return the path of a file, or of an unpacked copy of one that is compressed with gzip."""
    with open_regular(Path(file)) as stream:
        if stream.read(len(local_files.GZIP_MAGIC)) != local_files.GZIP_MAGIC:
            return file
    try:
        return str(local_files.inflated(Path(file), store))
    except OSError as error:
        raise ConfigError(f"data source {file!r}: {error}; write or download it again") from None


class DamagedRecordError(Exception):
    """A record cannot be read; the message says which one, and why."""


def verified(path: Path) -> Iterator[tuple[int, bytes]]:
    """Iterate over the records of a file in order, as (offset of the data, data).

    A length is compared with the size of the file before as many bytes are allocated. A record that
    is cut off or has changed is a DamagedRecordError.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        for number in itertools.count():
            offset = file.tell()
            head = file.read(_HEADER)
            if not head:
                return
            length = struct.unpack("<Q", head[:8])[0] if len(head) == _HEADER else 0
            left = max(size - offset - _HEADER - _FOOTER, 0)
            if head[8:] != _checksum(head[:8]):
                what = "the checksum of its length is wrong"
            elif length > min(left, local_files.BYTE_LIMIT):
                what = f"it claims {length:,} bytes and {left:,} are left"
            else:
                data = file.read(length)
                if file.read(_FOOTER) == _checksum(data):
                    yield offset + _HEADER, data
                    continue
                what = "its checksum is wrong"
            raise DamagedRecordError(f"record {number} at byte {offset:,} cannot be read ({what})")


def _checksum(data: bytes) -> bytes:
    """Return the masked CRC-32C of TFRecord files, four bytes."""
    import google_crc32c

    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


KINDS = (SourceKind("tfrecord", RecordSource, takes, order=40),)
