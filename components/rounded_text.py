"""Rounding of numbers for messages."""

from __future__ import annotations

_DIGITS, _MOST_DIGITS = 3, 17  # a float has no more than 17


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
