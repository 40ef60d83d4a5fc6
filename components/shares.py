"""Shares of images: their confidence interval, and texts that keep a comparison true."""

from __future__ import annotations

import math

_NORMAL_95 = 1.959964  # quantile of the normal distribution for a 95 % interval
_DIGITS, _MOST_DIGITS = 3, 17  # a float has no more than 17


def wilson(correct: int, count: int) -> tuple[float, float]:
    """Compute the 95 % Wilson score interval of a share (Wilson 1927).

    Args:
        correct: Number of successes.
        count: Number of trials. The interval is (0, 1) when it is 0.
    """
    if count == 0:
        return 0.0, 1.0
    z, share = _NORMAL_95, correct / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    # Rounding errors would move the ends that are exactly 0 and 1.
    low = max(0.0, (centre - spread) / scale) if correct else 0.0
    high = min(1.0, (centre + spread) / scale) if correct < count else 1.0
    return low, high


def below(value: float, limit: float) -> str:
    """Format a value that is below a limit so that the text is below the limit, too.

    Args:
        value: The number to format.
        limit: The limit that the number is below.

    Returns:
        The number with three decimals, or with as many as are needed, such as ``0.28996`` for a
        limit of 0.29.
    """
    texts = (f"{value:.{decimals}f}" for decimals in range(_DIGITS, _MOST_DIGITS))
    return next((text for text in texts if float(text) < limit), repr(value))


def apart(value: float, limit: float) -> tuple[str, str]:
    """Format two different numbers so that their texts differ, too.

    Returns:
        Both numbers with three decimals, or with as many as are needed.
    """
    pairs = ((f"{value:.{d}f}", f"{limit:.{d}f}") for d in range(_DIGITS, _MOST_DIGITS))
    return next((pair for pair in pairs if pair[0] != pair[1]), (repr(value), repr(limit)))
