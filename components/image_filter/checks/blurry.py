"""Blurred: hardly an edge left, even at the size of a thumbnail.

The formula is CleanVision's: the spread of the edges of a thumbnail, and of its histogram where
that is large.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from imgpipe.components.image_file.pixels import Pixels
from imgpipe.components.image_filter.checks.quality import DOUBT, below
from imgpipe.models import feature_names as names

_THRESHOLD = 0.29
_EDGES = 0.01  # per grey level, how fast sharpness grows with the spread of the edges
_FLAT = 0.18  # the histogram's part of sharpness counts only above this
_FLAT_DOUBT = 0.02  # how near to that is in doubt


def sharpness(pixels: Pixels) -> float:
    """0..1: spread of the edges; a flat histogram counts too, as images of few tones have it.

    The part of the histogram counts whole or not at all. The thumbnail is made from the reduced
    image, and from all pixels only where that decides.
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
    finds="Blurred, even at 64 pixels",
    sampled=False,
)
