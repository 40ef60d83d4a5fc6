"""Accuracy by kinds of images: format, folder, size, brightness and sharpness."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any

import numpy as np
from typing_extensions import TypedDict

from imgpipe.components.common.answer_table import DESCRIBED, AnswerTable
from imgpipe.models.head.certainty import AccuracyFigures
from imgpipe.models.names import feature_names as names

_MOST_VALUES = 12  # formats or folders; the rest of many folders says little


class Slice(AccuracyFigures):
    """The images of one kind."""

    value: Annotated[str, "The kind."]


class SliceGroup(TypedDict):
    """Images divided by one attribute."""

    name: Annotated[str, "The attribute."]
    accuracy: Annotated[float, "Accuracy on all images of which the attribute is known."]
    rows: Annotated[list[Slice], "The kinds."]


def slices(table: AnswerTable) -> list[SliceGroup]:
    """Return a list of slices for each attribute in which the described images differ."""
    table = table.select(np.array([bool(values) for values in table.described], np.bool_))
    groups: list[SliceGroup] = []
    for name, values in _attributes(table):
        # 0 and "" stand for an unknown value.
        known = np.flatnonzero([bool(value) for value in values])
        if not len(known):
            continue
        with_value = table.select(known)
        given = [values[row] for row in known.tolist()]
        kinds, ordered = _frequent(given) if isinstance(given[0], str) else _thirds(given)
        if len(ordered) < 2:
            continue
        kind_of = np.array(kinds, np.object_)
        rows: list[Slice] = [
            {"value": kind, **with_value.select(kind_of == kind).figures()} for kind in ordered
        ]
        accuracy = float(with_value.right.mean())
        groups.append({"name": name, "accuracy": accuracy, "rows": rows})
    return groups


def _attributes(table: AnswerTable) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name of each attribute, and its value for each image."""
    seen = [dict(zip(DESCRIBED, values, strict=True)) for values in table.described]
    yield "format", [bytes(of[names.FORMAT] or b"").decode("ascii", "replace") for of in seen]
    folders = [str(PurePosixPath(path).parent) for path in table.paths]
    if len(set(zip(folders, table.labels.tolist(), strict=True))) > len(set(folders)):
        yield "folder", folders  # otherwise a folder is a class
    yield "shorter side", [min(of[names.WIDTH] or 0, of[names.HEIGHT] or 0) for of in seen]
    yield "brightness", [of[names.BRIGHTNESS] or 0.0 for of in seen]
    yield "sharpness", [of[names.SHARPNESS] or 0.0 for of in seen]


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
