"""Measurements of the pixels of one image: each is a name and a function of the pixels.

The check that compares a measurement declares it, in `imgpipe.components.image_filter.checks`; the
two here are compared by no check and only described by the statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from imgpipe.components.image_file.pixels import Pixels
from imgpipe.models import feature_names as names


@dataclass(frozen=True)
class Measurement:
    """One measurement.

    Attributes:
        name: Name of the feature that stores it in an Example.
        of: Its value, from the pixels.
        sampled: Whether it is taken from the sample that `Pixels.tones` looks at.
        in_doubt: Whether a value of the sample is so near to a threshold that more pixels must
            decide. None for never.
    """

    name: str
    of: Callable[[Pixels], float]
    sampled: bool = False
    in_doubt: Callable[[float], bool] | None = None


BRIGHTNESS = Measurement(names.BRIGHTNESS, lambda pixels: pixels.tones.brightness, sampled=True)
CONTRAST = Measurement(names.CONTRAST, lambda pixels: pixels.tones.contrast, sampled=True)
#: Measurements that no check declares.
STATISTICS_ONLY = (BRIGHTNESS, CONTRAST)


def measure(pixels: Pixels, measurements: Iterable[Measurement]) -> dict[str, float]:
    """The value of each measurement by name, rounded to 32 bits as an Example stores it.

    When one that is taken from a sample is in doubt, all such are taken again from a larger sample.
    """
    wanted = tuple(measurements)
    figures = {one.name: one.of(pixels) for one in wanted}
    doubts = (one.in_doubt(figures[one.name]) for one in wanted if one.in_doubt)
    if pixels.is_sampled and any(doubts):
        closer = pixels.closer()
        figures |= {one.name: one.of(closer) for one in wanted if one.sampled}
    return {name: float(np.float32(value)) for name, value in figures.items()}
