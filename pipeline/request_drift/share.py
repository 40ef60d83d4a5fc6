"""The share of images or answers with some property, and how much it varies by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Standard deviations of the difference of two shares. By chance, a share is greater than another
#: one by more than three of them in 1 of 740 cases.
_SIGMAS = 3.0


@dataclass(frozen=True)
class Share:
    """A share of images or answers.

    Attributes:
        number: Number of those with the property.
        of: Number of all that were examined.
    """

    number: int
    of: int

    @property
    def value(self) -> float:
        """The share, 0..1; 0 if nothing was examined."""
        return self.number / self.of if self.of else 0.0

    def words(self) -> str:
        """Text for people, such as "0.092 of 1,969"."""
        return f"{self.value:.3f} of {self.of:,}"

    def by_chance(self, reference: Share) -> float:
        """Compute how much larger than the reference this share may be by chance.

        The standard deviation is that of the reference's share, estimated with one more case on
        either side (Laplace's rule), because no case among few images does not mean that there are
        none.

        Args:
            reference: Share with which this one is compared.

        Returns:
            The difference that chance explains, 0..1.
        """
        usual = (reference.number + 1) / (reference.of + 2)
        return _SIGMAS * math.sqrt(usual * (1 - usual) * (1 / self.of + 1 / reference.of))


NONE_LOOKED_AT = Share(0, 0)
