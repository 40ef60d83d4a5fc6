"""Compares the accuracy of two models on the same images."""

from __future__ import annotations

import math

from imgpipe.pipeline.json_formats.runs import Paired

_Z = 1.959964  # quantile of the normal distribution for a 95 % interval


def paired(both: int, only_a: int, only_b: int, neither: int) -> Paired:
    """Compare two models by how many images both, only one, or neither classifies correctly."""
    images = both + only_a + only_b + neither
    return {
        "images": images,
        "a": (both + only_a) / images,
        "b": (both + only_b) / images,
        "both": both,
        "only_a": only_a,
        "only_b": only_b,
        "neither": neither,
        "difference": (only_b - only_a) / images,
        "ci95": _interval(only_a, only_b, images),
        "p_value": _p_value(only_a, only_b),
    }


def _interval(only_a: int, only_b: int, images: int) -> list[float]:
    """95 % interval of the difference (Bonett and Price 2012), which also suits few images."""
    # One image is added to each of the two counts that differ, and two to the total. Without
    # that, the interval has no width where no image differs.
    count = images + 2
    gained, lost = (only_b + 1) / count, (only_a + 1) / count
    spread = _Z * math.sqrt((gained + lost - (gained - lost) ** 2) / count)
    centre = gained - lost
    return [max(-1.0, centre - spread), min(1.0, centre + spread)]


def _p_value(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test that both are equally accurate."""
    # Images on which the models agree say nothing about which one is better. Under the null
    # hypothesis, each of the others is a coin toss.
    differing = only_a + only_b
    tail = sum(math.comb(differing, count) for count in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**differing)
