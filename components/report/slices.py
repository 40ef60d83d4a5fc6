"""Accuracy by kinds of images: format, folder, size, brightness and sharpness.

The images pass one by one, and only counts are kept: numbers are counted in narrow bins, which are
merged to three slices with about as many images each at the end.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from imgpipe.components.predictor.prediction import Prediction
from imgpipe.models import feature_names as names

_VALUES, _NUMBERS = ("format", "folder"), ("shorter side", "brightness", "sharpness")
_THIRDS = 3
_BINS_AN_OCTAVE = 32  # a bin is 2 % wide
_MOST_VALUES = 12  # formats or folders; the rest of many folders says little

_Counts = dict[Any, list[int]]  # [images, correct] by value or by number of a bin


class Slices:
    """Counts of images and of correct predictions by kind of image."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {name: {} for name in (*_VALUES, *_NUMBERS)}
        self._labels: dict[str, set[int]] = defaultdict(set)

    def counted(self, rows: Iterable[Prediction]) -> Iterator[Prediction]:
        """Pass rows through and count them."""
        for row in rows:
            self._count(row)
            yield row

    def summary(self) -> list[dict[str, Any]]:
        """Return a list of slices for each attribute in which the images differ."""
        several = max(map(len, self._labels.values()), default=0) > 1  # else a folder is a class
        found = [
            (name, counts, _by_value(counts) if name in _VALUES else _by_third(counts))
            for name, counts in self._counts.items()
            if name != "folder" or several
        ]
        return [
            {"name": name, "accuracy": _accuracy(counts), "rows": rows}
            for name, counts, rows in found
            if len(rows) > 1
        ]

    def _count(self, row: Prediction) -> None:
        correct = row.label_index == row.predicted
        folder = str(PurePosixPath(row.path).parent)
        self._labels[folder].add(row.label_index)
        seen = row.described
        kind = bytes(seen.get(names.FORMAT) or b"").decode("ascii", "replace")
        for name, value in (("format", kind), ("folder", folder)):
            if value:
                _add(self._counts[name], value, correct)
        numbers = {
            "shorter side": min(seen.get(names.WIDTH) or 0, seen.get(names.HEIGHT) or 0),
            "brightness": seen.get(names.BRIGHTNESS),
            "sharpness": seen.get(names.SHARPNESS),
        }
        for name, number in numbers.items():
            if number:  # 0, which has no logarithm, also stands for an unknown size
                _add(self._counts[name], math.floor(math.log2(number) * _BINS_AN_OCTAVE), correct)


def _add(counts: _Counts, key: Any, correct: bool) -> None:
    entry = counts.setdefault(key, [0, 0])
    entry[0] += 1
    entry[1] += correct


def _accuracy(counts: _Counts) -> float:
    """Return the accuracy of all images, of which a table may show a part."""
    images, correct = map(sum, zip(*counts.values(), strict=True))
    return correct / images


def _by_value(counts: Mapping[Any, list[int]]) -> list[dict[str, Any]]:
    """Return the most frequent values."""
    most = sorted(counts.items(), key=lambda entry: (-entry[1][0], entry[0]))[:_MOST_VALUES]
    return [{"value": value, "count": n, "correct": right} for value, (n, right) in most]


def _by_third(counts: Mapping[int, list[int]]) -> list[dict[str, Any]]:
    """Merge neighbouring bins to three slices with about as many images each."""
    total = sum(n for n, _ in counts.values())
    groups: list[list[int]] = []  # first bin, images, correct
    seen, last = 0, -1
    for number, (n, right) in sorted(counts.items()):
        # A bin belongs to the third in which its first image is.
        third = min(_THIRDS * seen // total, _THIRDS - 1)
        if third != last:
            groups.append([number, 0, 0])
        last = third
        groups[-1][1] += n
        groups[-1][2] += right
        seen += n
    edges = [_number(2 ** (first / _BINS_AN_OCTAVE)) for first, _, _ in groups]
    return [
        {"value": _range(edges, i), "count": n, "correct": right}
        for i, (_, n, right) in enumerate(groups)
    ]


def _number(value: float) -> str:
    """Format a number with three significant digits, and a large one in full."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _range(edges: list[str], i: int) -> str:
    if i == 0:
        return f"below {edges[1]}" if len(edges) > 1 else "all"
    return f"{edges[i]} and more" if i == len(edges) - 1 else f"{edges[i]} to {edges[i + 1]}"
