"""Which of the versions of a model are served."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions that exist should be served."""

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    """Of ``latest``; 0 means 1."""
    versions: tuple[int, ...] = ()
    """Of ``specific``."""

    @property
    def asks_for_nothing(self) -> bool:
        """Whether no version at all is to be served: ``specific`` without numbers."""
        return self.kind == "specific" and not self.versions

    def choose(
        self, found: Iterable[int], usable: Callable[[int], bool] = lambda number: True
    ) -> list[int]:
        """The versions among ``found`` to serve, newest first.

        Args:
            found: all that exist.
            usable: whether a version can be served; asked about no more versions than needed, since
                the answer costs a look at its files.
        """
        newest = sorted(found, reverse=True)
        if self.kind == "specific":
            newest = [number for number in newest if number in self.versions]
        chosen = (number for number in newest if usable(number))
        return list(islice(chosen, max(self.num_versions, 1) if self.kind == "latest" else None))
