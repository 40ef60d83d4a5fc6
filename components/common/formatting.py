"""The formatting of numbers in sentences and on pages; "–" stands for an unknown value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

NONE = "–"
#: Rows of a table of classes. Nobody reads one of 500 rows.
MOST_CLASSES: Final = 30
_DIGITS = 3  # of a share
_MOST_DIGITS = 17  # a float has no more
_Item = TypeVar("_Item")


def count(value: Any) -> str:
    """Format a whole number with thousands separators: `12,400`."""
    return NONE if value is None else f"{int(value):,}"


def share(value: Any) -> str:
    """Format a share or a metric with three decimal places: `0.953`."""
    return NONE if value is None else f"{float(value):.3f}"


def seconds(value: Any) -> str:
    """Format a duration: `0.4 s`, `12.3 s`, `3 min 05 s`, `2 h 10 min`."""
    if value is None:
        return NONE
    value = float(value)
    if value < 59.95:  # more would be shown as 60.0 s
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def correct_text(correct: int, count: int) -> str:
    """Say how many images are predicted correctly.

    Examples:
        >>> correct_text(1_180, 1_240)
        '1,180 of 1,240 correct'
    """
    return f"{correct:,} of {count:,} correct"


def interval_text(ci95: Sequence[float]) -> str:
    """Say which interval an accuracy has, with as many digits as tell its ends apart.

    Examples:
        >>> interval_text([0.863, 0.966]), interval_text([0.9861, 0.9949])
        ('95 % interval 0.86–0.97', '95 % interval 0.986–0.995')
    """
    texts = ([f"{end:.{decimals}f}" for end in ci95] for decimals in (2, _DIGITS, 2 * _DIGITS))
    low, high = next((ends for ends in texts if len({*ends}) > 1), map(str, ci95))
    return f"95 % interval {low}–{high}"


def text_below(value: float, limit: float) -> str:
    """Format a value that is below a limit so that the text is below the limit, too.

    It has three decimals, or as many as are needed.

    Examples:
        >>> text_below(0.2, 0.29), text_below(0.28996, 0.29)
        ('0.200', '0.28996')
    """
    texts = (f"{value:.{decimals}f}" for decimals in range(_DIGITS, _MOST_DIGITS))
    return next((text for text in texts if float(text) < limit), repr(value))


def plural(number: int, singular: str, many: str = "") -> str:
    """Format a number and its noun: `1 image`, `1,240 images`."""
    return f"{number:,} {singular if number == 1 else many or singular + 's'}"


def join_names(values: Sequence[str], limit: int = 5) -> str:
    """Join the first `limit` names for a message, and add the number of the others."""
    shown = ", ".join(values[:limit])
    return f"{shown}, … ({len(values) - limit} more)" if len(values) > limit else shown


def capped(rows: Sequence[_Item], worth: Callable[[_Item], float]) -> tuple[Sequence[_Item], str]:
    """Shorten a table of classes.

    Args:
        rows: A row for each class.
        worth: Function of a row. Of many rows, those with the lowest values are kept, in the order
            of these values.

    Returns:
        At most `MOST_CLASSES` rows, and a sentence about those that are left out; "" if none is.
    """
    if len(rows) <= MOST_CLASSES:
        return rows, ""
    note = f"{MOST_CLASSES} of {len(rows):,} classes are shown; the JSON file has all."
    return sorted(rows, key=worth)[:MOST_CLASSES], note
