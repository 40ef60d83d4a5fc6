"""Sources of images behind one interface; `open_source` opens the one that a spec names.

A new source is one new file in this folder that defines `KINDS`. A registry finds it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

from imgpipe.components.example_gen.sources.base import Item, Scan, Source, SourceKind, fingerprint
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings

__all__ = [
    "SOURCES",
    "Item",
    "Kind",
    "Scan",
    "Source",
    "absolute_spec",
    "fingerprint",
    "open_source",
]
_DEFAULT = "folder"
_MAX_LENGTH = 4096  # characters of a path on Linux
_PREFIX = re.compile(r"^([A-Za-z][A-Za-z0-9+-]+):")


def _all_kinds() -> Iterator[SourceKind]:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        yield from getattr(importlib.import_module(module.name), "KINDS", ())


#: Kinds by the prefix of a spec ("folder:PATH"). A path without prefix is of the first kind whose
#: `takes` returns True, otherwise a folder.
SOURCES: dict[str, SourceKind] = {
    kind.name: kind for kind in sorted(_all_kinds(), key=lambda kind: (kind.order, kind.name))
}


def open_source(
    spec: str,
    options: DataSettings | None = None,
    store: str = "",
    least_classes: int = 2,
) -> Source:
    """Open a source of images.

    Whether the locator exists and has the expected layout is checked when the source is listed.

    Args:
        spec: `<kind>:<locator>`, or a path without prefix.
        options: How the source is read. Default: `DataSettings()`.
        store: Folder of the inspection cache, in which compressed files are unpacked too; "" for
            none.
        least_classes: Number of classes with fewer of which the source is refused; one is enough
            for an evaluation.

    Raises:
        ConfigError: The spec is empty or its kind is unknown.
    """
    if not spec.strip():
        raise ConfigError(
            "no data source given; expected a folder with one sub-folder for each class, or "
            "another source of images (DATA, or data.source in the configuration)"
        )
    options = options or DataSettings()
    try:
        kind, locator = split_spec(spec, options)
    except OSError as error:
        raise ConfigError(
            f"data source {spec!r} cannot be opened: {error.strerror}; expected a path that this "
            "user may read"
        ) from None
    return SOURCES[kind].open(locator, options, store, least_classes)


def split_spec(spec: str, options: DataSettings) -> tuple[str, str]:
    """Split a spec into its kind and its locator.

    Args:
        spec: `<kind>:<locator>`, or a path without prefix.
        options: How the source is read.

    Raises:
        ConfigError: The kind is unknown.
    """
    prefix, locator = _parts(spec)
    kind = prefix.lower()
    if not kind:
        taken = (name for name, entry in SOURCES.items() if entry.takes(spec, options))
        kind = next(taken, _DEFAULT)
    if kind not in SOURCES:
        raise ConfigError(
            f"data source {spec!r}: unknown kind {kind!r}; expected a folder or one of "
            + ", ".join(f"{name}:…" for name in sorted(SOURCES))
        )
    return kind, locator


def _parts(spec: str) -> tuple[str, str]:
    """Return the prefix of a spec, "" for none, and its locator."""
    match = _PREFIX.match(spec)
    return (match[1], spec[match.end() :]) if match else ("", spec)


def absolute_spec(spec: str, folder: Path) -> str:
    """Make the path of a spec absolute.

    Args:
        spec: `<kind>:<locator>`, or a path without prefix. Names and URIs are left unchanged.
        folder: Folder that a relative path starts from.

    Raises:
        ConfigError: The spec is longer than a path can be, or contains a NUL character.
    """
    if "\0" in spec or len(spec) > _MAX_LENGTH:
        raise ConfigError(
            f"data source {spec[:60]!r}… has {len(spec):,} characters or a NUL character; expected "
            f"a path of {_MAX_LENGTH:,} characters at most"
        )
    prefix, path = _parts(spec)
    if prefix and ("://" in spec or not getattr(SOURCES.get(prefix.lower()), "is_path", False)):
        return spec
    try:
        joined = folder / Path(path).expanduser()
        # Links stay, because a container may have other ones. After a link, ".." is in the folder
        # that the link leads to.
        absolute = str(joined.resolve() if ".." in joined.parts else joined.absolute())
    except (OSError, RuntimeError) as error:  # no such user, or a loop of links
        raise ConfigError(f"data source {path!r} is not a valid path: {error}") from None
    return f"{prefix}:{absolute}" if prefix else absolute
