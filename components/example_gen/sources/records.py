"""TFRecord files of tf.Examples with an encoded image as a source: a file, a folder or a pattern.

One pass verifies the checksums and finds where in the file each image is; afterwards an image is
read as a part of the file. TensorFlow is imported when a file is listed, not when it is read.
"""

from __future__ import annotations

import collections
import itertools
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.sources import tables
from imgpipe.components.example_gen.sources.images import (
    BYTE_LIMIT,
    FileReader,
    Item,
    Listing,
    check_inside,
)
from imgpipe.components.example_gen.sources.tables import SourceRow, SourceTable
from imgpipe.components.example_gen.sources.walk import note_beside, safe_path
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
_GZIP = b"\x1f\x8b\x08"
#: Names of record files: x.tfrecord, x.tfrec, data_tfrecord-00000-of-00010.
RECORD_FILE: Final = re.compile(r"(tfrecords?|\.tfrec)([-_.][\d?*]+-of-[\d?*]+)?(\.gz)?$", re.I)
#: Number and total of a part, as in x.tfrecord-00002-of-00004.
_PART = re.compile(r"(.*[-_.])(\d+)-of-(\d+)([^/\d][^/]*|)")
_ROLES = ("image", "label", "name", "split", "group")
_EXPECTED = (
    "expected TFRecord files of tf.Examples with an encoded image and its label; name other "
    "features by data.image_column and data.label_column"
)


def files_of(place: Path) -> list[Path]:
    """Return the record files that a path names: a file, those directly in a folder, or a pattern.

    A folder in which other folders stand is that of a tree.
    """
    if place.is_dir():
        entries = [entry for entry in place.iterdir() if not file_names.is_hidden(entry.name)]
        if any(entry.is_dir() for entry in entries):
            return []
        return sorted(entry for entry in entries if RECORD_FILE.search(entry.name))
    if place.is_file():
        return [place] if RECORD_FILE.search(place.name) else []
    is_pattern = "*" in str(place) and ".tfrec" in place.name
    return sorted(filter(Path.is_file, _above(place).glob(_pattern(place)))) if is_pattern else []


def _above(pattern: Path) -> Path:
    """Return the folder above the first part of a pattern that has a sign of patterns."""
    return next(above for above in pattern.parents if "*" not in str(above))


def _pattern(place: Path) -> str:
    return place.relative_to(_above(place)).as_posix()


def list_records(spec: str, files: Sequence[Path], options: DataSettings) -> Listing:
    """List the images of record files.

    Args:
        spec: The source, for messages.
        files: The files, as `files_of` returns them.
        options: Settings of the source.

    Raises:
        ConfigError: A file is damaged or missing, or holds no such records.
    """
    folder = Path(os.path.commonpath([file.parent for file in files]))
    place = Path(spec).expanduser().absolute()
    if place.is_dir():
        _require_all_parts(spec, files)
    listing = Listing(spec, FileReader(str(folder), options.follow_links), _EXPECTED)
    read = []
    for file in files:
        name = file.relative_to(folder).as_posix()
        try:
            if place.is_dir() and not options.follow_links:
                check_inside(file, folder)
            read.append(SourceTable(name, [*_rows(file, name, options)]))
        except OSError as error:
            raise tables.not_read(str(file), error) from None
    if place.is_dir():
        note_beside(listing.notes, folder, files)
    tables.add_rows(listing, tables.with_splits_of_names(spec, read), options)
    return listing


def _require_all_parts(source: str, files: Sequence[Path]) -> None:
    """Raise a ConfigError if parts are missing of which the names of the others tell."""
    present: dict[tuple[str, ...], set[int]] = collections.defaultdict(set)
    for file in files:
        match = _PART.fullmatch(file.name)
        if match:
            start, number, *rest = match.groups()
            present[start, *rest].add(int(number))
    for (start, total, ending), numbers in present.items():
        count = int(total)
        first = int(count in numbers)  # parts are counted from 0 or from 1
        missing = next((n for n in range(first, count + first) if n not in numbers), None)
        if missing is not None:
            raise ConfigError(
                f"data source {source!r}: {len(numbers)} of {count:,} parts are here, and "
                f"{start}{missing:0{len(total)}d}-of-{total}{ending} is missing. Copy or download "
                f"it again, or read the parts that are here by a pattern ({start}*)"
            )


def _rows(file: Path, name: str, options: DataSettings) -> Iterator[SourceRow]:
    """Yield a row for each record of a file, with the number of the record in its path."""
    features = _features(file, options)
    for number, row in enumerate(read_rows(file, name, features) if features else ()):
        yield numbered(row, name, number)


def numbered(row: SourceRow, folder: str, number: int) -> SourceRow:
    """Return a row with the path of the record with a number in a folder."""
    path = f"{folder}/{number:08d}/{row.item.path}".rstrip("/")
    return row._replace(item=Item(path, problem=row.item.problem, part=row.item.part))


def read_rows(file: Path, name: str, features: dict[str, str]) -> Iterator[SourceRow]:
    """Yield a row for each record of a file; the part of its item is in the file of a name.

    Args:
        file: The file.
        name: Its name for the reader.
        features: Name of the feature of each role; "" for those that are absent.

    Raises:
        ConfigError: The file is cut off or damaged, or holds no tf.Examples.
    """
    for number, (begin, record, example) in enumerate(_examples(file)):
        path, _ = safe_path(_text(example, features["name"]))
        values = example.features.feature[features["image"]].bytes_list.value
        if len(values) == 1:
            image = values[0]
            _refuse_pixels(file, image, example)
            # The bytes of an image stand in the record as they are.
            item = Item(path, part=f"{begin + record.find(image)}:{len(image)}:{name}")
        else:
            why = f"the record has {len(values)} values of {features['image']!r}, expected one"
            item = Item.unreadable(path, why)
        said = (_text(example, features[role]) for role in ("label", "split", "group"))
        yield SourceRow(f"record {number}", item, *said)


def _refuse_pixels(file: Path, image: bytes, example: tf.train.Example) -> None:
    """Refuse records whose bytes are height × width × depth pixels instead of an encoded image."""
    sizes = []
    for name, values in example.features.feature.items():
        if name.rpartition("/")[2] in ("height", "width", "depth", "channels"):
            sizes += values.int64_list.value[:1]
    count = 1
    for size in sizes:
        count *= size
    if len(sizes) > 1 and count == len(image) and not file_names.begins_as_image(image[:512]):
        size = " x ".join(map(str, sizes))
        raise ConfigError(
            f"data source {str(file)!r}: its images are {size} pixels and not encoded; expected "
            "JPEG or PNG. Write them with tf.io.encode_jpeg or tf.io.encode_png"
        )


def _features(file: Path, options: DataSettings) -> dict[str, str]:
    """Find the features of each role in the first records of a file; {} if it has no record."""
    seen: dict[str, None] = {}
    # Several, because records may omit features that have no value.
    for _, _, example in itertools.islice(_examples(file), _FIRST):
        seen |= dict.fromkeys(sorted(example.features.feature))
    if not seen:
        return {}
    features = find_features(str(file), list(seen), options)
    if not features["image"]:
        shown = join_names(list(seen), 12)
        raise ConfigError(
            f"data source {str(file)!r}: none of its features {shown} is an image; {_EXPECTED}"
        )
    # Later records may have the only feature of a role.
    return {role: feature or role for role, feature in features.items()}


def find_features(where: str, names: Sequence[str], options: DataSettings) -> dict[str, str]:
    """Find the feature of each role by settings or usual names; "" for those that are absent."""
    places = tables.find_columns(where, names, options, _ROLES)
    return {role: names[place] if place >= 0 else "" for role, place in places.items()}


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


def _examples(file: Path) -> Iterator[tuple[int, bytes, tf.train.Example]]:
    """Iterate over the records of a file that has to be whole: its place, bytes and content."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        for number, (begin, record) in enumerate(verified(file)):
            try:
                yield begin, record, tf.train.Example.FromString(record)
            except DecodeError:
                raise ConfigError(
                    f"data source {str(file)!r}: record {number} is not a tf.Example; expected "
                    "records with the encoded image and its label as features"
                ) from None
    except DamagedRecordError as error:
        raise ConfigError(
            f"data source {str(file)!r} is cut off, damaged or not a TFRecord file: {error}; write "
            "or download it again"
        ) from None


class DamagedRecordError(Exception):
    """A record cannot be read; the message says which one, and why."""


def verified(path: Path) -> Iterator[tuple[int, bytes]]:
    """Iterate over the records of a file in order, as (offset of the data, data).

    A length is compared with the size of the file before as many bytes are allocated.

    Raises:
        DamagedRecordError: A record is cut off or has changed.
        OSError: The file cannot be read.
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
            if number == 0 and head.startswith(_GZIP):
                raise DamagedRecordError("it is compressed; unpack it with gunzip")
            if head[8:] != _checksum(head[:8]):
                what = "the checksum of its length is wrong"
            elif length > min(left, BYTE_LIMIT):
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
