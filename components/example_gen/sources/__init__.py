"""Sources of images behind one interface; `open_source` opens the one that a spec names.

To add a source, write a module with a class and add one line to `SOURCES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.example_gen.sources import archive, file_list, pixel_table, tfrecord
from imgpipe.components.example_gen.sources.archive import ArchiveSource
from imgpipe.components.example_gen.sources.base import (
    Item,
    Note,
    Scan,
    Source,
    SourceOptions,
    fingerprint,
)
from imgpipe.components.example_gen.sources.file_list import ManifestSource
from imgpipe.components.example_gen.sources.folder import FolderSource
from imgpipe.components.example_gen.sources.object_store import ObjectStoreSource
from imgpipe.components.example_gen.sources.pixel_table import PixelSource
from imgpipe.components.example_gen.sources.tfds import TfdsSource
from imgpipe.components.example_gen.sources.tfrecord import TFRecordSource
from imgpipe.components.example_gen.sources.validation import VettedSource
from imgpipe.models.errors import ConfigError

__all__ = [
    "SOURCES",
    "Item",
    "Note",
    "Scan",
    "Source",
    "SourceOptions",
    "absolute",
    "fingerprint",
    "open_source",
]


@dataclass(frozen=True)
class Kind:
    """One kind of source."""

    open: Callable[[str, SourceOptions], Source]
    #: Whether a path without prefix is of this kind.
    takes: Callable[[str, SourceOptions], bool] = lambda locator, options: False
    is_path: bool = True  # whether its locator is a path, not a name


def _object_store(scheme: str) -> Callable[[str, SourceOptions], Source]:
    return lambda locator, options: ObjectStoreSource(f"{scheme}:{locator}", options)


#: Kinds by the prefix of a spec ("folder:PATH"). A path without prefix is of the first kind whose
#: `takes` returns True, otherwise a folder. The order matters: a .csv with a column of paths is a
#: manifest, and every other .csv is taken for a table of pixels.
SOURCES: dict[str, Kind] = {
    "folder": Kind(FolderSource),
    "archive": Kind(ArchiveSource, archive.takes),
    "manifest": Kind(ManifestSource, file_list.takes),
    "csv": Kind(PixelSource, pixel_table.takes),
    "tfrecord": Kind(TFRecordSource, tfrecord.takes),
    "tfds": Kind(TfdsSource, is_path=False),
    "gs": Kind(_object_store("gs"), is_path=False),
    "s3": Kind(_object_store("s3"), is_path=False),
}
_DEFAULT = "folder"
_MAX_LENGTH = 4096  # characters of a path on Linux
_PREFIX = re.compile(r"^([A-Za-z][A-Za-z0-9+-]+):")


def open_source(spec: str, options: SourceOptions | None = None) -> Source:
    """Open a source of images.

    Whether the locator exists and has the expected layout is checked when the source is listed.

    Args:
        spec: ``<kind>:<locator>``, or a path without prefix.
        options: How the source is read. Default: `SourceOptions()`.

    Raises:
        ConfigError: The spec is empty or its kind is unknown.
    """
    if not spec.strip():
        raise ConfigError(
            "no data source given; expected a folder with one sub-folder for each class, or "
            "another source of images (--data SRC, or data.source in the configuration)"
        )
    options = options or SourceOptions()
    kind, locator = split_spec(spec, options)
    return VettedSource(SOURCES[kind].open(locator, options), options)


def split_spec(spec: str, options: SourceOptions) -> tuple[str, str]:
    """Split a spec into its kind and its locator.

    Args:
        spec: ``<kind>:<locator>``, or a path without prefix.
        options: How the source is read.

    Raises:
        ConfigError: The kind is unknown.
    """
    match = _PREFIX.match(spec)
    if match is None:
        taken = (kind for kind, entry in SOURCES.items() if entry.takes(spec, options))
        return next(taken, _DEFAULT), spec
    kind = match.group(1).lower()
    if kind not in SOURCES:
        raise ConfigError(
            f"data source {spec!r}: unknown kind {kind!r}; expected a folder or one of "
            + ", ".join(f"{name}:…" for name in sorted(SOURCES))
        )
    return kind, spec[match.end() :]


def absolute(spec: str, folder: Path) -> str:
    """Make the path of a spec absolute.

    Args:
        spec: ``<kind>:<locator>``, or a path without prefix. Names and URIs are left unchanged.
        folder: Folder that a relative path starts from.

    Raises:
        ConfigError: The spec is longer than a path can be, or contains a NUL character.
    """
    if "\0" in spec or len(spec) > _MAX_LENGTH:
        raise ConfigError(
            f"data source {spec[:60]!r}… has {len(spec):,} characters or a NUL character; expected "
            f"a path of {_MAX_LENGTH:,} characters at most"
        )
    match = _PREFIX.match(spec)
    if match is None:
        return str((folder / Path(spec).expanduser()).resolve())
    kind = SOURCES.get(match.group(1).lower())
    if kind is None or not kind.is_path or "://" in spec:
        return spec
    return match.group(0) + str((folder / Path(spec[match.end() :]).expanduser()).resolve())
