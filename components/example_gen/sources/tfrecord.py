"""TFRecord files of encoded images as a source: one file, a folder or a file pattern."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from imgpipe.components.example_gen.sources import local_files
from imgpipe.components.example_gen.sources.archive import safe_path
from imgpipe.components.example_gen.sources.base import Item, Kind, Scan, SourceOptions
from imgpipe.components.example_gen.sources.hashing import HashedSource
from imgpipe.components.example_gen.sources.layout import (
    RECORD_FILE,
    SPLIT_WORDS,
    is_hidden,
    require_all_named,
    split_in,
)
from imgpipe.components.example_gen.sources.record_files import (
    Entry,
    Fields,
    fields_of,
    image_of,
    index,
)
from imgpipe.components.example_gen.sources.tree import listed
from imgpipe.models.errors import ConfigError

_EXPECTED = (
    "expected TFRecord files of tf.Examples with an encoded image and its label; name other "
    "features by data.image_column and data.label_column"
)


def takes(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names record files, or a folder of them without a sub-folder.

    Files of other kinds may be beside x.tfrecord, but other things are called x.record, too.
    """
    path = Path(locator).expanduser()
    if path.is_dir():
        found = local_files.visible(path)
        records = [entry for entry in found if RECORD_FILE.search(entry.name)]
        sure = any("tfrec" in entry.name.lower() for entry in records)
        if not sure and 2 * len(records) <= len(found):
            return False
        return not any(entry.is_dir() for entry in found)
    known = map(RECORD_FILE.search, (locator, locator.rstrip("*")))
    return any(known) or ".tfrecord" in locator.lower()


@dataclass(frozen=True)
class TFRecordSource(HashedSource):
    """Files on a local or mounted file system, with or without gzip compression."""

    locator: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Read all records once; see `Source.listing`."""
        return listed(self.locator, self._items(), _EXPECTED, self.options.least_classes)

    def read(self, item: Item) -> bytes:
        """Read the encoded image of one record; see `Source.read`."""
        return read_locator(item.locator)

    def _items(self) -> Iterator[Item]:
        base, files = self._files()
        alone = Path(self.locator).expanduser().is_file()
        named: dict[str, str | None] = {}
        for file in files:
            name = file.relative_to(base).as_posix()
            fields = fields_of(str(file), self.options)
            if fields is None:
                continue
            # The name of a file that is the whole source need not name its split:
            # crash_test_photos.tfrecord.
            remedy = "rename it, or name the files of one split"
            given = None if alone else split_in(name, remedy)
            entries = index(str(file), fields)
            if not all(entry.split for entry in entries):
                named[name] = given
            for number, entry in enumerate(entries):
                split = _split_of(entry.split, name, number) if entry.split else given
                yield to_item(f"{name}/{number:08d}", str(file), entry, fields, split)
        require_all_named(self.locator, named)

    def _files(self) -> tuple[Path, list[Path]]:
        """Return the folder that names are relative to, and the record files in order."""
        path = Path(self.locator).expanduser().absolute()
        if path.is_file():
            return path.parent, [path]
        if path.is_dir():
            # Folders below count too, as in Examples artifacts: Split-train/data_tfrecord-….
            named = [f for f in sorted(path.rglob("*")) if RECORD_FILE.search(f.name)]
            found = [f for f in named if f.is_file()]
            files = [f for f in found if not any(map(is_hidden, f.relative_to(path).parts))]
            if not files:
                raise ConfigError(f"data source {self.locator!r} holds no record file; {_EXPECTED}")
            local_files.check_all(self.locator, files, path, self.options.follow_links)
            return path, files
        files = sorted(file for file in _matching(path) if file.is_file())
        if not files:
            raise ConfigError(f"data source {self.locator!r} does not exist; {_EXPECTED}")
        return Path(os.path.commonpath([file.parent for file in files])), files


def _split_of(word: str, name: str, number: int) -> str:
    """Return the split that a record names, because an ignored word may mean a held-out image."""
    try:
        return SPLIT_WORDS[word.lower()]
    except KeyError:
        raise ConfigError(
            f"data source {name!r}, record {number}: split {word!r}; expected train, validation or "
            "test. Correct the records, or rename this feature in them if it holds something else"
        ) from None


def _matching(pattern: Path) -> Iterator[Path]:
    """Paths that a pattern matches; `**` matches any number of folders."""
    parts = pattern.parts
    fixed = next((n for n, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
    yield from Path(*parts[:fixed]).glob("/".join(parts[fixed:]))


def to_item(path: str, file: str, entry: Entry, fields: Fields, split: str | None) -> Item:
    """Create the item of a record of `file`.

    `path` is that of the item, to which the file name in the record, if any, is appended.
    """
    name, unsafe = safe_path(entry.path) if entry.path else ("", "")
    return Item(
        f"{path}/{name}" if name and not unsafe else path,
        None if entry.label is None else str(entry.label),
        split,
        group=entry.group or None,
        locator=f"{entry.offset}:{entry.length}:{quote(fields.image)}:{file}",
    )


def read_locator(locator: str) -> bytes:
    """Read the encoded image that the locator of an item refers to."""
    offset, length, rest = locator.split(":", 2)
    feature, _, file = rest.partition(":")  # a colon in the feature is quoted
    return image_of(file, int(offset), int(length), unquote(feature))


KINDS = (Kind("tfrecord", TFRecordSource, takes, order=40),)
