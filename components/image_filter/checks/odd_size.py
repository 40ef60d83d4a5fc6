"""Much smaller or larger than the rest of the set: a thumbnail, or an image from elsewhere.

The limits come from the sizes of all images that no other check rejects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_filter.checks.quality import MAY_BE, remedy
from imgpipe.components.image_record import ImageRecord


def size(width: int, height: int) -> float:
    """Side of the square with as many pixels."""
    return math.sqrt(width) * math.sqrt(height)


def limits(pixels: Mapping[int, int], factor: float) -> tuple[float, float] | None:
    """The usual least and greatest size, by the quartiles and `factor` times what is between them.

    `pixels` maps width × height to the number of images that have it, so that memory grows with
    the number of different sizes only. None when there is no image.
    """
    if not pixels:
        return None
    areas = np.array(sorted(pixels))
    counts = np.array([pixels[int(area)] for area in areas])
    sizes, last = (
        np.sqrt(areas),
        np.cumsum(counts) - 1,
    )  # `last`: index of the last image of each size
    q1, q3 = (_quantile(sizes, last, share) for share in (0.25, 0.75))
    return q1 - factor * (q3 - q1), q3 + factor * (q3 - q1)


def _quantile(sizes: np.ndarray, last: np.ndarray, share: float) -> float:
    """As `np.percentile` of the repeated sizes: linear between the two images next to it."""
    place = share * last[-1]
    low, high = (int(np.searchsorted(last, n)) for n in (math.floor(place), math.ceil(place)))
    return float(sizes[low] + (sizes[high] - sizes[low]) * (place - math.floor(place)))


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Object to a size outside the usual ones; where all are the same, to any other."""
    usual = settings.limits.get(CHECK.name)
    if usual is None:
        return None
    least, greatest = usual
    own = size(record.width, record.height)
    tolerance = 1e-9 * greatest  # the limits are computed, the sizes of equal images are not
    if least - tolerance <= own <= greatest + tolerance:
        return None
    sizes = f"usual are {max(least, 0):.0f} to {greatest:.0f}"
    detail = f"{record.width} x {record.height} pixels: as a square {own:.0f} wide, {sizes}"
    middle = (least + greatest) / 2
    return Finding(CHECK.name, detail, score=-abs(own - middle))


CHECK = Check(
    "odd_size",
    190,
    "set",
    judge,
    remedy("odd_size"),
    severity="warn",
    may_be=MAY_BE,
    finds="Much smaller or larger than the rest of the set",
    threshold=3.0,
    about="ranges between the quartiles of the sizes, to either side",
    counted=lambda record: record.pixels,
    limits=limits,
)
