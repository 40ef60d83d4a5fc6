"""Paths that TensorFlow and Beam take for patterns of other paths, as those of copies "model [1]".

A SavedModel below such a path is not found by TensorFlow, or another one in its place.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

_PATTERN: Final = re.compile(r"[*?[\\]")
#: What is replaced in the name of a folder that is renamed.
_UNUSUAL: Final = re.compile(r"[^\w.-]+")


def pattern_in(path: Path) -> str:
    """Return why a path cannot be used and how the folder is renamed; "" for a plain path.

    Args:
        path: An absolute path.

    Examples:
        >>> pattern_in(Path("/data/model 1"))
        ''
    """
    if not _PATTERN.search(str(path)):
        return ""
    message = (
        "expected a path without *, ?, [ and \\, which Beam and TensorFlow take for patterns of "
        f"other folders. Received: {path}"
    )
    named = next(part for part in reversed([path, *path.parents]) if _PATTERN.search(part.name))
    if not named.exists():
        return message
    name = _UNUSUAL.sub("-", named.name).strip("-") or "renamed"
    return f"{message}. Rename it: {shlex.join(['mv', str(named), str(named.with_name(name))])}"
