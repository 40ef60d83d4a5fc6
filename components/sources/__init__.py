"""Sources of images behind one interface; `open_source` finds the one that a spec names.

A new source is one module with a class and one line in `SOURCES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from components.sources.base import Item, Note, Scan, Source, fingerprint
from components.sources.folder import FolderSource
from models.errors import ConfigError

__all__ = ["SOURCES", "Item", "Note", "Scan", "Source", "fingerprint", "open_source"]

#: Prefix of a spec ("folder:PATH") → what opens the rest of it.
SOURCES: dict[str, Callable[[str], Source]] = {
    "folder": FolderSource,
}
_DEFAULT = "folder"


def open_source(spec: str) -> Source:
    """The source that `spec` names: ``<kind>:<rest>``, or a plain path for a folder.

    Raises ConfigError when the kind is unknown. Whether the place exists and is what it should
    be shows when it is listed.
    """
    if not spec.strip():
        raise ConfigError(
            "no data source given; expected a folder with one sub-folder a class "
            "(--data DIR, or data.source in the config)"
        )
    match = re.match(r"^([A-Za-z][A-Za-z0-9+-]+):", spec)
    kind = match.group(1).lower() if match else _DEFAULT
    if kind not in SOURCES:
        raise ConfigError(
            f"data source {spec!r}: unknown kind {kind!r}; expected a folder or one of "
            + ", ".join(f"{name}:…" for name in sorted(SOURCES))
        )
    rest = spec[match.end() :] if match else spec
    return SOURCES[kind](rest)
