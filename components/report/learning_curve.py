"""The learning curve as a sentence: whether more training images would help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_WORTHWHILE = 0.5  # points of accuracy for twice the images
_SHOWN = 0.05  # points; less is shown as 0.0


def _standard_error(one: float, other: float, images: int) -> float:
    """Return the standard error of the difference of two accuracies on `images` images each."""
    return math.sqrt((one * (1 - one) + other * (1 - other)) / max(images, 1))


def would_more_help(curve: Sequence[Mapping[str, Any]], judged: int) -> str:
    """Say what the last doubling of the number of training images gained.

    Args:
        curve: Points ``{"images", "accuracy"}`` with more and more training images.
        judged: Number of images on which each accuracy was measured.

    Returns:
        A sentence; "" when the curve has fewer than two points.
    """
    if len(curve) < 2:
        return ""
    before, after = curve[-2:]
    gained = 100 * (after["accuracy"] - before["accuracy"])
    seen = f"From {before['images']} to {after['images']} training images, accuracy "
    error = 100 * _standard_error(before["accuracy"], after["accuracy"], judged)
    if _WORTHWHILE <= abs(gained) < error:
        verb = "rose" if gained > 0 else "fell"
        return f"{seen}{verb} by {abs(gained):.1f} points, which may be chance."
    if gained >= _WORTHWHILE:
        return f"{seen}rose by {gained:.1f} points, so that more images would probably help."
    change = f"fell by {-gained:.1f} points" if gained < 0 else f"rose by only {gained:.1f} points"
    if abs(gained) < _SHOWN:
        change = "did not change"
    return f"{seen}{change}, so that more such images would help little."
