"""Images that are much smaller or larger than the others, such as thumbnails.

The limits are computed from the sizes of all images that no other check rejects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_filter.checks.quality import MAY_BE, remedy
from imgpipe.components.image_record import ImageRecord


def size(width: int, height: int) -> float:
    """Return the side of the square with the same number of pixels."""
    return math.sqrt(width) * math.sqrt(height)


def limits(pixels: Mapping[int, int], factor: float) -> tuple[float, float] | None:
    """Compute the limits of the usual sizes from the quartiles.

    Args:
        pixels: Number of images for each width × height, so that memory grows only with the number
            of different sizes.
        factor: How many interquartile ranges a size may lie below or above the quartiles.

    Returns:
        (smallest, largest) usual `size`, or None when there is no image.
    """
    if not pixels:
        return None
    areas = np.array(sorted(pixels))
    counts = np.array([pixels[int(area)] for area in areas])
    sizes = np.sqrt(areas)
    last = np.cumsum(counts) - 1  # index of the last image of each size
    q1, q3 = (_quantile(sizes, last, share) for share in (0.25, 0.75))
    return q1 - factor * (q3 - q1), q3 + factor * (q3 - q1)


def _quantile(sizes: np.ndarray, last: np.ndarray, share: float) -> float:
    """Compute `np.percentile` of the repeated sizes, interpolated linearly."""
    place = share * last[-1]
    low, high = (int(np.searchsorted(last, n)) for n in (math.floor(place), math.ceil(place)))
    return float(sizes[low] + (sizes[high] - sizes[low]) * (place - math.floor(place)))


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Report sizes outside the limits; when all images have one size, every other size."""
    usual = settings.limits.get(CHECK.name)
    if usual is None:
        return None
    least, greatest = usual
    own = size(record.width, record.height)
    tolerance = 1e-9 * greatest  # absorbs rounding errors in the limits when all sizes are equal
    if least - tolerance <= own <= greatest + tolerance:
        return None
    low, high = f"{max(least, 0):.0f}", f"{greatest:.0f}"
    sizes = f"{low} x {low}" if low == high else f"{low} x {low} to {high} x {high}"
    detail = f"{record.width} x {record.height} pixels, where about {sizes} is usual"
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
    about="interquartile ranges below or above the quartiles of the sizes",
    counted=lambda record: record.pixels,
    limits=limits,
)
