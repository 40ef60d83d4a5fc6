"""A share of some images or answers, and what chance does to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SIGMAS = 3.0  # of the difference of two shares


@dataclass(frozen=True)
class Share:
    """A number of images or answers, of all that were looked at."""

    number: int
    of: int

    @property
    def value(self) -> float:
        """The share, 0..1; 0 where nothing was looked at."""
        return self.number / self.of if self.of else 0.0

    def words(self) -> str:
        """For people: "0.092 of 1,969"."""
        return f"{self.value:.3f} of {self.of:,}"

    def by_chance(self, reference: Share) -> float:
        """How much larger than the reference this share may be by chance.

        The spread is that of the reference's share, estimated with one case more on either side
        (Laplace's rule), because no case among few images does not mean that there are none.
        """
        usual = (reference.number + 1) / (reference.of + 2)
        return _SIGMAS * math.sqrt(usual * (1 - usual) * (1 / self.of + 1 / reference.of))


NONE_LOOKED_AT = Share(0, 0)
