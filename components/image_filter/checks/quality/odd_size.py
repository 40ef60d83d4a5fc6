"""Much smaller or larger than the rest of the set: a thumbnail, or a picture from elsewhere.

The one check that has to know the whole set: `limits` comes from the sizes of all pictures, and
reaches the check as `Settings.sizes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from imgpipe.components.image_filter.check import Record, Settings, Verdict
from imgpipe.components.image_filter.checks.quality.base import make


def size(width: int, height: int) -> float:
    """Side of the square with as many pixels."""
    return math.sqrt(width) * math.sqrt(height)


def limits(pixels: Mapping[int, int], factor: float) -> tuple[float, float] | None:
    """The usual least and greatest size, by the quartiles and `factor` times what is between them.

    `pixels` maps width × height to the number of pictures that have it, so that memory grows with
    the number of different sizes alone. None when there is no picture.
    """
    if not pixels:
        return None
    areas = np.array(sorted(pixels))
    counts = np.array([pixels[int(area)] for area in areas])
    sizes, last = np.sqrt(areas), np.cumsum(counts) - 1  # `last`: index of each size's last picture
    q1, q3 = (_quantile(sizes, last, share) for share in (0.25, 0.75))
    return q1 - factor * (q3 - q1), q3 + factor * (q3 - q1)


def _quantile(sizes: np.ndarray, last: np.ndarray, share: float) -> float:
    """As `np.percentile` of the repeated sizes: linear between the two pictures next to it."""
    place = share * last[-1]
    low, high = (int(np.searchsorted(last, n)) for n in (math.floor(place), math.ceil(place)))
    return float(sizes[low] + (sizes[high] - sizes[low]) * (place - math.floor(place)))


def judge(record: Record, settings: Settings) -> Verdict | None:
    """Object to a size outside the usual ones; where all are the same, to any other."""
    if settings.sizes is None:
        return None
    least, greatest = settings.sizes
    own = size(record.width, record.height)
    tolerance = 1e-9 * greatest  # the limits are computed, the sizes of equal pictures are not
    if least - tolerance <= own <= greatest + tolerance:
        return None
    usual = f"usual are {max(least, 0):.0f} to {greatest:.0f}"
    detail = f"{record.width} x {record.height} pixels: as a square {own:.0f} wide, {usual}"
    middle = (least + greatest) / 2
    return Verdict(CHECK.name, detail, score=-abs(own - middle))


CHECK = make(
    "odd_size",
    judge,
    3.0,
    "ranges between the quartiles of the sizes, to either side",
    "Much smaller or larger than the rest of the set",
)
