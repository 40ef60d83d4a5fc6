"""Sources of images behind one interface; `open_source` finds the one that a spec names.

A new source is one module with a class and one line in `SOURCES`.
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
    #: Whether a plain path is of this kind.
    takes: Callable[[str, SourceOptions], bool] = lambda place, options: False
    is_path: bool = True  # whether its place is a path, and not a name


#: Prefix of a spec ("folder:PATH") → the kind; of a plain path, the first kind that takes it.
SOURCES: dict[str, Kind] = {
    "folder": Kind(lambda place, options: FolderSource(place, options)),
    "archive": Kind(lambda place, options: ArchiveSource(place), archive.takes),
    "manifest": Kind(ManifestSource, file_list.takes),
    "csv": Kind(PixelSource, pixel_table.takes),
    "tfrecord": Kind(TFRecordSource, tfrecord.takes),
    "tfds": Kind(TfdsSource, is_path=False),
}
_DEFAULT = "folder"
_LONGEST = 4096  # characters of a path on Linux
_PREFIX = re.compile(r"^([A-Za-z][A-Za-z0-9+-]+):")


def open_source(spec: str, options: SourceOptions | None = None) -> Source:
    """The source that `spec` names: ``<kind>:<place>``, or a plain path.

    Raises ConfigError when the kind is unknown. Whether the place exists and is what it should
    be shows when it is listed.
    """
    if not spec.strip():
        raise ConfigError(
            "no data source given; expected a folder with one sub-folder a class, or another "
            "source of images (--data SRC, or data.source in the config)"
        )
    options = options or SourceOptions()
    kind, place = split_spec(spec, options)
    return VettedSource(SOURCES[kind].open(place, options), options)


def split_spec(spec: str, options: SourceOptions) -> tuple[str, str]:
    """(kind, place) of a spec; ConfigError when the kind is unknown."""
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
    """The spec with its path made absolute, counted from `folder`; names and addresses stay."""
    if "\0" in spec or len(spec) > _LONGEST:
        raise ConfigError(
            f"data source {spec[:60]!r}… has {len(spec):,} characters or a NUL character; expected "
            f"a path of {_LONGEST:,} characters at most"
        )
    match = _PREFIX.match(spec)
    if match is None:
        return str((folder / Path(spec).expanduser()).resolve())
    kind = SOURCES.get(match.group(1).lower())
    if kind is None or not kind.is_path or "://" in spec:
        return spec
    return match.group(0) + str((folder / Path(spec[match.end() :]).expanduser()).resolve())
