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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file.file_names import is_hidden
from imgpipe.components.common.splits import split_word
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import local_files, tables
from imgpipe.components.example_gen.sources.base import Item, Scan, Source, SourceKind, listed_files
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular

if TYPE_CHECKING:
    import tensorflow as tf

#: Bytes before a TFRecord, its length with a checksum
#: (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
_HEADER = 12
_FOOTER = 4  # bytes after a TFRecord, a checksum of the data
_FIRST = 100  # records in which the features are looked for
_SHOWN = 8  # values of a label with several
_FILES_KEPT = 1024  # cached indexes of files, because a source is listed up to three times
#: Names of record files: x.tfrecord, x.tfrec, data_tfrecord-00000-of-00010.gz.
RECORD_FILE = re.compile(r"(tfrecords?|\.tfrec)(-[\d?*]+-of-[\d?*]+)?(\.gz)?$", re.IGNORECASE)
#: Number and total of a part, as in x.tfrecord-00002-of-00004.
_PART = re.compile(r"(.*)-(\d+)-of-(\d+)([^/\d][^/]*|)")
_EXPECTED = (
    "expected TFRecord files of tf.Examples with an encoded image and its label; name other "
    "features by data.image_column and data.label_column"
)


def takes(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names record files, or a folder of them without a sub-folder."""
    path = Path(locator).expanduser()
    if path.is_dir():
        entries = local_files.visible(path)
        has_records = any(RECORD_FILE.search(entry.name) for entry in entries)
        return has_records and not any(entry.is_dir() for entry in entries)
    is_named_so = any(map(RECORD_FILE.search, (locator, locator.rstrip("*"))))
    return is_named_so or ".tfrecord" in locator.lower()


class Features(NamedTuple):
    """Names of the features of a record by their roles, "" for features that are absent."""

    image: str
    label: str
    name: str
    split: str
    group: str


@dataclass(frozen=True)
class TFRecordSource(Source):
    """Files on a local or mounted file system, with or without gzip compression."""

    locator: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Read all records once; see `Source.listing`."""
        base, files = self._files()
        by_file = {file.relative_to(base).as_posix(): file for file in files}
        items = {name: list(self._items(name, file)) for name, file in by_file.items()}
        return listed_files(self.locator, items, _EXPECTED, self.options)

    def read(self, item: Item) -> bytes:
        """Read the encoded image of one record; see `Source.read`."""
        return read_locator(item.locator, self.options.store)

    def _items(self, name: str, file: Path) -> Iterator[Item]:
        plain = _plain(str(file), self.options.store)
        features = _features(plain, str(file), self.options)
        if features is None:
            return
        for number, item in enumerate(index(plain, features, str(file))):
            split = split_word(item.split, f"{name!r}, record {number}") if item.split else None
            yield placed_record(item, f"{name}/{number:08d}", item.label, split)

    def _files(self) -> tuple[Path, list[Path]]:
        """Return the folder that names are relative to, and the record files in order."""
        path = Path(self.locator).expanduser().absolute()
        if path.is_file():
            return path.parent, [path]
        if path.is_dir():
            # Folders below count too, as in Examples artifacts: Split-train/data_tfrecord-….
            named = [file for file in sorted(path.rglob("*")) if RECORD_FILE.search(file.name)]
            regular = [file for file in named if file.is_file()]
            inside = ((file, file.relative_to(path).parts) for file in regular)
            files = [file for file, parts in inside if not any(map(is_hidden, parts))]
            if not files:
                raise ConfigError(f"data source {self.locator!r} holds no record file; {_EXPECTED}")
            local_files.check_all(self.locator, files, path, self.options.follow_links)
            self._check_parts(files)
            return path, files
        files = sorted(file for file in path.parent.glob(path.name) if file.is_file())
        if not files:
            raise ConfigError(f"data source {self.locator!r} does not exist; {_EXPECTED}")
        return path.parent, files

    def _check_parts(self, files: Sequence[Path]) -> None:
        """Refuse a folder that lacks parts that the names of the others tell; a pattern may."""
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
def index(path: str, features: Features, name: str) -> tuple[Item, ...]:
    """Return an item for each record of an unpacked file, which has this name in messages.

    The path of an item is the name of its image in the record, "" for none, and its label and split
    are the texts in the record. A file that is cut off or damaged is a ConfigError.
    """
    items = []
    for offset, length, example in _examples(path, name):
        file, unsafe = local_files.safe_path(_text(example, features.name))
        item = Item(
            "" if unsafe else file,
            _label(example, features.label) or None,
            _text(example, features.split) or None,
            group=_text(example, features.group) or None,
            locator=f"{offset}:{length}:{quote(features.image)}:{name}",
        )
        items.append(item)
    return tuple(items)


def placed_record(item: Item, path: str, label: str | None, split: str | None) -> Item:
    """Return an item of `index` below a path, and in a class and a split."""
    return replace(item, path=f"{path}/{item.path}".rstrip("/"), label=label, split=split)


def _features(path: str, name: str, options: SourceOptions) -> Features | None:
    """Find the names of the features in the first records of a file; None if it has no record."""
    seen: dict[str, None] = {}
    count = 0
    # Several, because records may omit features that have no value.
    for _, _, example in itertools.islice(_examples(path, name), _FIRST):
        seen |= dict.fromkeys(sorted(example.features.feature))
        count += 1
    if not count:
        return None
    features = find_features(name, list(seen), options)
    if not features.image:
        shown = join_names(list(seen), 12)
        raise ConfigError(
            f"data source {name!r}: none of its features {shown} is an image; {_EXPECTED}"
        )
    # Later records may have the only feature of a role.
    return Features(*(feature or role for role, feature in features._asdict().items()))


def find_features(where: str, names: Sequence[str], options: SourceOptions) -> Features:
    """Find the features of a record by settings or usual names; "" for those that are absent."""
    places = tables.find_columns(where, names, options, Features._fields)
    return Features(*(names[place] if place >= 0 else "" for place in places.values()))


def _values(example: tf.train.Example, feature: str) -> list[str]:
    """Return the first values of a feature as texts, none when it is absent."""
    values = example.features.feature.get(feature)
    kind = values.WhichOneof("kind") if values is not None else None
    texts = []
    for value in getattr(values, kind).value[:_SHOWN] if kind else ():
        if isinstance(value, bytes):
            texts.append(value.decode("utf-8", "replace"))
        else:
            texts.append(str(int(value) if float(value).is_integer() else value))
    return texts


def _text(example: tf.train.Example, feature: str) -> str:
    """Return the value of a feature; "" for none or several."""
    values = _values(example, feature)
    return values[0] if len(values) == 1 else ""


def _label(example: tf.train.Example, feature: str) -> str:
    """Return the label; several values become one text, which is refused by its brackets."""
    values = _values(example, feature)
    return tables.cell_text(f"[{', '.join(values)}]" if len(values) > 1 else "".join(values))


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


KINDS = (SourceKind("tfrecord", TFRecordSource, takes, order=40),)
