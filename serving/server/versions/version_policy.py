"""The version policy of a model: which of its versions are served."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal


@dataclass(frozen=True)
class VersionPolicy:
    """Rule that selects the versions to serve from those that exist."""

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    """Number of versions to serve with ``latest``; 0 means 1."""
    versions: tuple[int, ...] = ()
    """Numbers of the versions to serve with ``specific``."""

    @property
    def asks_for_nothing(self) -> bool:
        """Whether no version at all is to be served: ``specific`` without numbers."""
        return self.kind == "specific" and not self.versions

    def choose(
        self, found: Iterable[int], usable: Callable[[int], bool] = lambda number: True
    ) -> list[int]:
        """Return the versions among ``found`` to serve, newest first.

        Args:
            found: The numbers of all existing versions.
            usable: Returns whether a version can be served. It is called for no more versions than
                necessary, because it must read the files of the version.
        """
        newest = sorted(found, reverse=True)
        if self.kind == "specific":
            newest = [number for number in newest if number in self.versions]
        chosen = (number for number in newest if usable(number))
        return list(islice(chosen, max(self.num_versions, 1) if self.kind == "latest" else None))
