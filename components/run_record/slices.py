"""Accuracy by kinds of images: format, folder, size, brightness and sharpness.

The images pass one by one, and a few numbers of each are kept.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any

import numpy as np
from typing_extensions import TypedDict

from imgpipe.components.common.prediction import StoredPrediction
from imgpipe.models.names import feature_names as names

_MOST_VALUES = 12  # formats or folders; the rest of many folders says little


class Slice(TypedDict):
    """The images of one kind."""

    value: Annotated[str, "The kind."]
    count: Annotated[int, "Number of images."]
    correct: Annotated[int, "Images that are predicted correctly."]


class SliceGroup(TypedDict):
    """Images divided by one attribute."""

    name: Annotated[str, "The attribute."]
    accuracy: Annotated[float, "Accuracy on all images of which the attribute is known."]
    rows: Annotated[list[Slice], "The kinds."]


class Slices:
    """Kinds of images, and whether they were predicted correctly."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[Any]] = defaultdict(list)  # a value of each image, by attribute
        self._correct: list[bool] = []
        self._labels: dict[str, set[int]] = defaultdict(set)

    def counted(self, rows: Iterable[StoredPrediction]) -> Iterator[StoredPrediction]:
        """Pass rows through and remember their kinds."""
        for row in rows:
            folder = str(PurePosixPath(row.path).parent)
            seen = row.described
            self._labels[folder].add(row.label_index)
            self._correct.append(row.correct)
            shorter = min(seen.get(names.WIDTH) or 0, seen.get(names.HEIGHT) or 0)
            kind = bytes(seen.get(names.FORMAT) or b"").decode("ascii", "replace")
            self._kinds["format"].append(kind)
            self._kinds["folder"].append(folder)
            self._kinds["shorter side"].append(shorter)
            self._kinds["brightness"].append(seen.get(names.BRIGHTNESS) or 0.0)
            self._kinds["sharpness"].append(seen.get(names.SHARPNESS) or 0.0)
            yield row

    def summary(self) -> list[SliceGroup]:
        """Return a list of slices for each attribute in which the images differ."""
        several = max(map(len, self._labels.values()), default=0) > 1  # else a folder is a class
        groups: list[SliceGroup] = []
        for name, values in self._kinds.items():
            # 0 and "" stand for an unknown value.
            with_value = [
                (value, ok) for value, ok in zip(values, self._correct, strict=True) if value
            ]
            if not with_value or (name == "folder" and not several):
                continue
            given, correct = zip(*with_value, strict=True)
            kinds, ordered = _frequent(given) if isinstance(given[0], str) else _thirds(given)
            counts = Counter(kinds)
            right = Counter(kind for kind, ok in zip(kinds, correct, strict=True) if ok)
            rows: list[Slice] = [
                {"value": kind, "count": counts[kind], "correct": right[kind]} for kind in ordered
            ]
            if len(rows) > 1:
                groups.append({"name": name, "accuracy": sum(correct) / len(correct), "rows": rows})
        return groups


def _frequent(values: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """Return the values, and the most frequent ones."""
    most = sorted(Counter(values).items(), key=lambda entry: (-entry[1], entry[0]))
    return values, [value for value, _ in most[:_MOST_VALUES]]


def _thirds(values: Sequence[float]) -> tuple[Sequence[str], list[str]]:
    """Return the third of each number, with about as many images each, and the thirds in order."""
    edges = np.unique(np.quantile(values, [1 / 3, 2 / 3], method="lower"))
    texts = [f"{edge:.3g}" if edge < 100 else f"{edge:,.0f}" for edge in edges]
    thirds = [
        f"up to {texts[0]}",
        *(f"{low} to {high}" for low, high in itertools.pairwise(texts)),
        f"above {texts[-1]}",
    ]
    places = np.searchsorted(edges, values)
    return [thirds[place] for place in places], [thirds[place] for place in np.unique(places)]
