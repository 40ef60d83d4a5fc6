"""Measurements: numbers that are computed from the pixels of one image.

Each check in `imgpipe.components.image_filter.checks` declares the measurement that it uses. The
two measurements declared here are used by no check; only the statistics describe them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from imgpipe.components.image_file.pixels import Pixels
from imgpipe.models import feature_names as names


@dataclass(frozen=True)
class Measurement:
    """A number computed from the pixels of an image.

    Attributes:
        name: Name of the feature that stores it in an Example.
        of: Function that computes the value from the pixels.
        sampled: Whether the value is computed from `Pixels.tones`, that is, from a sample of the
            pixels.
        in_doubt: Function that tells whether the value computed from a sample is so close to a
            threshold that a larger sample is needed. None if this is never the case.
    """

    name: str
    of: Callable[[Pixels], float]
    sampled: bool = False
    in_doubt: Callable[[float], bool] | None = None


BRIGHTNESS = Measurement(names.BRIGHTNESS, lambda pixels: pixels.tones.brightness, sampled=True)
CONTRAST = Measurement(names.CONTRAST, lambda pixels: pixels.tones.contrast, sampled=True)
#: Measurements that no check uses.
STATISTICS_ONLY = (BRIGHTNESS, CONTRAST)


def measure(pixels: Pixels, measurements: Iterable[Measurement]) -> dict[str, float]:
    """Compute measurements of an image.

    If the value of any sampled measurement is in doubt, all sampled measurements are computed again
    from a larger sample.

    Returns:
        The values by name, rounded to float32 as in an Example.
    """
    wanted = tuple(measurements)
    figures = {measurement.name: measurement.of(pixels) for measurement in wanted}
    doubts = (m.in_doubt(figures[m.name]) for m in wanted if m.in_doubt)
    if pixels.is_sampled and any(doubts):
        closer = pixels.closer()
        # All of them, because they share the luminance of the larger sample.
        figures |= {m.name: m.of(closer) for m in wanted if m.sampled}
    return {name: float(np.float32(value)) for name, value in figures.items()}
