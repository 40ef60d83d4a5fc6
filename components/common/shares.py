"""Shares of images: their confidence intervals, the comparison of two, and their texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from typing_extensions import TypedDict

_NORMAL_95 = 1.959964  # quantile of the normal distribution for a 95 % interval
_DIGITS = 3
_MOST_DIGITS = 17  # a float has no more


class AccuracyFigures(TypedDict):
    """How many of some images are predicted correctly."""

    count: Annotated[int, "Number of images."]
    correct: Annotated[int, "Images that are predicted correctly."]
    accuracy: Annotated[float | None, "Share of correct predictions; null without an image."]
    ci95: Annotated[
        list[float],
        "Wilson interval of the accuracy, 95 %; in a run, the images of a family count once.",
    ]


class PairedAnswers(TypedDict):
    """Two models, a and b, on the same images."""

    images: Annotated[int, "Number of images that both predicted."]
    a: Annotated[float, "Accuracy of the first model on these images."]
    b: Annotated[float, "Accuracy of the second model on these images."]
    both: Annotated[int, "Images that both predict correctly."]
    only_a: Annotated[int, "Images that only the first model predicts correctly."]
    only_b: Annotated[int, "Images that only the second model predicts correctly."]
    neither: Annotated[int, "Images that both predict wrongly."]
    difference: Annotated[float, "Accuracy of the second model minus that of the first."]
    ci95: Annotated[list[float], "95 % interval of the difference."]
    p_value: Annotated[float, "p-value of McNemar's exact test."]


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
    z = _NORMAL_95
    share = correct / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    # Rounding errors would move the ends that are exactly 0 and 1.
    low = max(0.0, (centre - spread) / scale) if correct else 0.0
    high = min(1.0, (centre + spread) / scale) if correct < count else 1.0
    return low, high


def accuracy_figures(correct: int, count: int, independent: int = 0) -> AccuracyFigures:
    """Return the accuracy on some images with its interval.

    Args:
        correct: Number of images that are predicted correctly.
        count: Number of images.
        independent: Number of independent images, where those of a family count once because they
            are mostly right or wrong together; 0 if all images are independent.

    Examples:
        >>> figures = accuracy_figures(93, 100)
        >>> figures["accuracy"]
        0.93
    """
    return {
        "count": count,
        "correct": correct,
        "accuracy": correct / count if count else None,
        "ci95": list(_interval(correct, count, independent or count)),
    }


def _interval(correct: int, count: int, independent: int) -> tuple[float, float]:
    """Return the interval of a share that was measured on so many independent images."""
    return wilson(correct * independent / count if count else 0, independent)


def correct_text(correct: int, count: int) -> str:
    """Say how many images are predicted correctly.

    Examples:
        >>> correct_text(1_180, 1_240)
        '1,180 of 1,240 correct'
    """
    return f"{correct:,} of {count:,} correct"


def interval_text(ci95: Sequence[float]) -> str:
    """Say which interval an accuracy has.

    Examples:
        >>> interval_text(wilson(93, 100))
        '95 % interval 0.86–0.97'
    """
    low, high = ci95
    return f"95 % interval {low:.2f}–{high:.2f}"


def text_below(value: float, limit: float) -> str:
    """Format a value that is below a limit so that the text is below the limit, too.

    It has three decimals, or as many as are needed.

    Examples:
        >>> text_below(0.2, 0.29), text_below(0.28996, 0.29)
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
    gained = (only_b + 1) / count
    lost = (only_a + 1) / count
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


def paired_answers(both: int, only_a: int, only_b: int, neither: int) -> PairedAnswers:
    """Compare two models by how many images both, only one, or neither predicts correctly.

    Args:
        both: Number of images that both predict correctly.
        only_a: Number of images that only the first model predicts correctly.
        only_b: Number of images that only the second model predicts correctly.
        neither: Number of images that both predict wrongly.

    Raises:
        ZeroDivisionError: There is no image.

    Examples:
        >>> pair = paired_answers(both=43, only_a=8, only_b=9, neither=40)
        >>> pair["images"], pair["difference"]
        (100, 0.01)
    """
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
        "ci95": list(difference(only_a, only_b, images)),
        "p_value": mcnemar(only_a, only_b),
    }
