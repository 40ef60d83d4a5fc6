"""Shares of images: their confidence intervals, the comparison of two, and their texts."""

from __future__ import annotations

import math

_NORMAL_95 = 1.959964  # quantile of the normal distribution for a 95 % interval
_DIGITS, _MOST_DIGITS = 3, 17  # a float has no more than 17


def wilson(correct: float, count: int) -> tuple[float, float]:
    """Compute the 95 % Wilson score interval of a share (Wilson 1927).

    Args:
        correct: Number of successes; a share of the trials where each stands for several.
        count: Number of trials. The interval is (0, 1) when it is 0.

    Examples:
        >>> low, high = wilson(93, 100)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.863 to 0.966
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

    It has three decimals, or as many as are needed.

    Examples:
        >>> below(0.2, 0.29), below(0.28996, 0.29)
        ('0.200', '0.28996')
    """
    texts = (f"{value:.{decimals}f}" for decimals in range(_DIGITS, _MOST_DIGITS))
    return next((text for text in texts if float(text) < limit), repr(value))


def difference(only_a: int, only_b: int, images: int) -> tuple[float, float]:
    """Compute the 95 % interval of the difference of two accuracies on the same images, b minus a.

    The interval of Bonett and Price (2012) also suits few images.

    Args:
        only_a: Number of images for which only model a is right.
        only_b: Number of images for which only model b is right.
        images: Number of all images.

    Examples:
        >>> low, high = difference(only_a=3, only_b=9, images=200)
        >>> print(f"{low:+.3f} to {high:+.3f}")
        -0.006 to +0.066
    """
    # One image is added to each of the two counts that differ, and two to the total. Without
    # that, the interval has no width where no image differs.
    count = images + 2
    gained, lost = (only_b + 1) / count, (only_a + 1) / count
    spread = _NORMAL_95 * math.sqrt((gained + lost - (gained - lost) ** 2) / count)
    centre = gained - lost
    return max(-1.0, centre - spread), min(1.0, centre + spread)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test that two models are equally accurate.

    Examples:
        >>> print(f"{mcnemar(only_a=3, only_b=9):.3f}")
        0.146
    """
    from scipy.special import bdtr

    # Images on which the models agree say nothing about which one is better. Under the null
    # hypothesis, each of the others is a coin toss.
    return float(min(1.0, 2 * bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
