"""The time of a search: how much there is of it, and how much a way of training takes."""

from __future__ import annotations

import time
from typing import Final

from imgpipe.models import progress
from imgpipe.models.search.ways import Way
from imgpipe.models.settings import ModelSettings

#: If no budget is given, the search may take as long as this number of forward passes of all
#: training images, within these limits.
_PASSES: Final = 60
_MOST_MINUTES: Final = 15.0
_LEAST_MINUTES: Final = 1.0


class Budget:
    """The remaining time of a search, which a person may also end.

    The cost of a network is measured in forward passes of one image of 1 x 1 pixels, because the
    time of a convolution grows with the number of pixels.

    Attributes:
        stopped: Whether a person has asked for the end of the search, as far as `interrupted` and
            `over` have found out.
    """

    def __init__(self, settings: ModelSettings, images: int) -> None:
        """Create a budget whose time does not run yet; see `begin`.

        Args:
            settings: Settings with the minutes, if they are given, and the usual image size.
            images: Number of images that a way trains on.
        """
        self._settings, self._images = settings, images
        self._until = float("inf")
        self._pass_seconds = 0.0
        self.stopped = False

    @property
    def begun(self) -> bool:
        """Whether the time runs."""
        return self._pass_seconds > 0

    def begin(self, pass_seconds: float) -> float:
        """Let the time run, and return how many minutes there are.

        Args:
            pass_seconds: Seconds of a forward pass of one image of 1 x 1 pixels.
        """
        self._pass_seconds = pass_seconds
        minutes = self._settings.minutes
        if minutes is None:
            minutes = _PASSES * self.minutes(self._settings.size**2)
            minutes = min(max(minutes, _LEAST_MINUTES), _MOST_MINUTES)
        self._until = time.monotonic() + 60 * minutes
        return minutes

    def minutes(self, passes: float) -> float:
        """Estimate how many minutes a number of forward passes takes for each of the images."""
        return passes * self._images * self._pass_seconds / 60

    def passes(self) -> float:
        """Estimate how many forward passes of each image fit into the remaining time."""
        return (self._until - time.monotonic()) / (self._images * self._pass_seconds)

    def learn(self, way: Way, images: int, seconds: float) -> None:
        """Replace the cost of a forward pass by that of a way, which includes everything.

        Args:
            way: The way that was tried.
            images: Number of images that it was trained on.
            seconds: Time that this took.
        """
        self._pass_seconds = seconds / (way.passes() * images)

    def has(self, seconds: float) -> bool:
        """Return whether that much time remains."""
        return time.monotonic() + seconds <= self._until

    def interrupted(self) -> bool:
        """Return whether a person asked for the end of the search."""
        self.stopped = self.stopped or progress.stopped()
        return self.stopped

    def over(self) -> bool:
        """Return whether the time is over, or a person asked for the end of the search."""
        return self.interrupted() or not self.has(0)
