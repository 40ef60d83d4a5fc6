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


def apart(value: float, limit: float) -> tuple[str, str]:
    """Format two different numbers so that their texts differ, too.

    Returns:
        Both numbers with three decimals, or with as many as are needed.
    """
    pairs = ((f"{value:.{d}f}", f"{limit:.{d}f}") for d in range(_DIGITS, _MOST_DIGITS))
    return next((pair for pair in pairs if pair[0] != pair[1]), (repr(value), repr(limit)))
