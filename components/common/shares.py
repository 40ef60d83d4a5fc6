"""Texts of shares of images: how many are right, with their interval."""

from __future__ import annotations

from collections.abc import Sequence

_DIGITS = 3
_MOST_DIGITS = 17  # a float has no more


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
        >>> interval_text([0.863, 0.966])
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
