"""Compares the accuracy of two models on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z = 1.959964  # quantile of the normal distribution for a 95 % interval


@dataclass(frozen=True)
class PairedAccuracy:
    """How many images both of two models, only one of them, or neither classifies correctly."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def images(self) -> int:
        """Number of images."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def first(self) -> float:
        """Accuracy of the first model."""
        return (self.both + self.only_first) / self.images

    @property
    def second(self) -> float:
        """Accuracy of the second model."""
        return (self.both + self.only_second) / self.images

    @property
    def difference(self) -> float:
        """Accuracy of the second model minus that of the first."""
        return (self.only_second - self.only_first) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference (Bonett and Price 2012), which also suits few images."""
        # One image is added to each of the two counts that differ, and two to the total. Without
        # that, the interval has no width where no image differs.
        count = self.images + 2
        gained, lost = (self.only_second + 1) / count, (self.only_first + 1) / count
        spread = _Z * math.sqrt((gained + lost - (gained - lost) ** 2) / count)
        centre = gained - lost
        return max(-1.0, centre - spread), min(1.0, centre + spread)

    @property
    def p_value(self) -> float:
        """Two-sided p-value of McNemar's exact test that both are equally accurate."""
        # Images on which the models agree say nothing about which one is better. Under the null
        # hypothesis, each of the others is a coin toss.
        differing = self.only_first + self.only_second
        fewer = min(self.only_first, self.only_second)
        tail = sum(math.comb(differing, count) for count in range(fewer + 1))
        return min(1.0, 2 * tail / 2**differing)
