"""Blurred images: they have few edges even at the size of a thumbnail.

The formula is that of CleanVision: the standard deviation of the edges of a thumbnail, to which
that of its histogram is added when it is large.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from imgpipe.components.image_file.pixels import Pixels
from imgpipe.components.image_filter.checks.quality import DOUBT, below
from imgpipe.models import feature_names as names

_THRESHOLD = 0.29
_EDGES = 0.01  # per grey level: how fast sharpness grows with the standard deviation
_FLAT = 0.18  # the histogram's part of the sharpness is added only above this value
_FLAT_DOUBT = 0.02  # within this distance of `_FLAT`, the thumbnail is computed from all pixels


def sharpness(pixels: Pixels) -> float:
    """Compute the sharpness, 0..1, from the edges and the histogram of a thumbnail.

    The histogram's part is large for images with few tones. It is added in full or not at all. The
    thumbnail is made from the reduced image; it is made again from all pixels only when the result
    is close to a threshold.
    """
    small = pixels.small
    resized = small.image.size != small.thumbnail
    thumbnail = small.grey
    if resized:
        thumbnail = thumbnail.resize(small.thumbnail, Image.Resampling.BICUBIC, box=small.box)
    edges, flatness = _edges_and_flatness(thumbnail)
    near = abs(_sum(edges, flatness) - _THRESHOLD) < DOUBT
    turns = abs(flatness - _FLAT) < _FLAT_DOUBT and edges < _THRESHOLD + DOUBT
    if (near or turns) and resized:
        image = Image.fromarray(pixels.values).resize(small.thumbnail)
        edges, flatness = _edges_and_flatness(image.convert("L"))
    return _sum(edges, flatness)


def _edges_and_flatness(grey: Image.Image) -> tuple[float, float]:
    edges = np.asarray(grey.filter(ImageFilter.FIND_EDGES), np.float64).std()
    tones = float(np.std(grey.histogram()))
    return 1 - math.exp(-_EDGES * float(edges)), 1 - math.exp(-_EDGES * tones)


def _sum(edges: float, flatness: float) -> float:
    return min(edges + (flatness if flatness > _FLAT else 0.0), 1.0)


CHECK = below(
    "blurry",
    order=170,
    feature=names.SHARPNESS,
    measure=sharpness,
    threshold=_THRESHOLD,
    about="sharpness",
    finds="Blurred even when resized to 64 pixels",
    sampled=False,
)
