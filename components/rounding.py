"""Rounding of numbers for messages."""

from __future__ import annotations

_MOST_DIGITS = 17  # a float has no more


def below(value: float, limit: float, digits: int = 3) -> str:
    """Format a value that is below a limit so that the text is below the limit, too.

    Args:
        value: The number to format.
        limit: The limit that the number is below.
        digits: Number of decimals. More are used if the text would otherwise reach the limit.

    Returns:
        The number with the fewest decimals, such as ``0.28996`` for a limit of 0.29.
    """
    for decimals in range(digits, _MOST_DIGITS):
        text = f"{value:.{decimals}f}"
        if float(text) < limit:
            return text
    return repr(value)
