"""The versions that one poll of a base path has found."""

from __future__ import annotations

from collections.abc import Callable

from imgpipe.serving.server.storage import VersionDirectory, VersionStore

Examine = Callable[[int, Callable[[], VersionDirectory | None]], VersionDirectory | None]
"""Function from a version, and a function that reads its files, to its directory."""


class FoundVersions:
    """The versions of one poll. The files of each version are read at most once, when it is needed.

    Args:
        store: The versions below the base path.
        names: Names of the version directories by number.
        examine: Returns the directory of a version, marked as incomplete while it may change.
    """

    def __init__(self, store: VersionStore, names: dict[int, str], examine: Examine) -> None:
        self.names = names
        self._store, self._examine = store, examine
        self._entries: dict[int, VersionDirectory | None] = {}

    def get(self, version: int) -> VersionDirectory | None:
        """Return the directory of a version; None if it does not exist."""
        name = self.names.get(version)
        if name is None:
            return None
        if version not in self._entries:
            self._entries[version] = self._examine(
                version, lambda: self._store.inspect(version, name)
            )
        return self._entries[version]

    def is_complete(self, version: int) -> bool:
        """Return whether a version can be loaded."""
        entry = self.get(version)
        return entry is not None and not entry.missing

    def incomplete(self, version: int) -> VersionDirectory | None:
        """Return the directory of a version that cannot be loaded yet; otherwise None."""
        entry = self.get(version)
        return entry if entry is not None and entry.missing else None
