"""The versions that one poll of a base path has found."""

from __future__ import annotations

import functools
from collections.abc import Callable

from imgpipe.serving.server.storage import VersionDirectory


class FoundVersions:
    """The versions of one poll. The files of each version are read at most once, when it is needed.

    Args:
        names: Names of the version directories by number.
        examine: Returns the directory of a version, marked as incomplete while it may change; None
            if it no longer exists.
    """

    def __init__(
        self, names: dict[int, str], examine: Callable[[int], VersionDirectory | None]
    ) -> None:
        self.names = names
        self._examine = functools.cache(examine)

    def get(self, version: int) -> VersionDirectory | None:
        """Return the directory of a version; None if it does not exist."""
        return self._examine(version) if version in self.names else None

    def is_complete(self, version: int) -> bool:
        """Return whether a version can be loaded."""
        entry = self.get(version)
        return entry is not None and not entry.missing
