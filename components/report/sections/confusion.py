"""The confusion matrix: a coloured table, or a plot when there are many classes."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import Any

from imgpipe.components.report import plots
from imgpipe.components.report.metrics import Cell
from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.report.sections import mistakes
from imgpipe.components.report.sections.mistakes import Anchors

_TABLE = 20  # classes; a wider table is hard to read
_PAIRS = 12  # most frequent confusions listed beside a plot


def build(context: Context) -> Content:
    """Make one matrix for each split."""
    classes = context.vocabulary
    splits = []
    for split, cells in context.measured("confusion").items():
        most = max(max(label, predicted) for label, predicted, _ in cells)
        classes = classes or [str(number) for number in range(1, most + 2)]
        small = len(classes) <= _TABLE
        anchors = mistakes.anchors(context, split)
        splits.append(
            {
                "split": split,
                "rows": _rows(cells, classes, anchors) if small else [],
                "plot": "" if small else plots.matrix(cells, len(classes), f"confusion-{split}"),
                "pairs": [] if small else _pairs(cells, classes, anchors),
                "count": sum(count for _, _, count in cells),
            }
        )
    if not splits:
        return context.absent("No image was classified by a trained model")
    return {"splits": splits, "classes": classes}


def _rows(cells: Sequence[Cell], classes: Sequence[str], anchors: Anchors) -> list[dict[str, Any]]:
    """Make rows of cells; the square root of the opacity makes single mistakes visible."""
    counts = [[0] * len(classes) for _ in classes]
    for label, predicted, count in cells:
        counts[label][predicted] = count
    rows = []
    for i, row in enumerate(counts):
        total = sum(row)
        shown = [
            {
                "count": n,
                "opacity": 0.6 * math.sqrt(n / total) if total else 0,
                "right": i == j,
                "anchor": anchors.get((classes[i], classes[j]), ""),
            }
            for j, n in enumerate(row)
        ]
        rows.append({"label": classes[i], "cells": shown, "total": total})
    return rows


def _pairs(cells: Sequence[Cell], classes: Sequence[str], anchors: Anchors) -> list[dict[str, Any]]:
    """Return the most frequent confusions, the largest first."""
    totals: collections.Counter[int] = collections.Counter()
    for label, _, count in cells:
        totals[label] += count
    found: list[dict[str, Any]] = [
        {
            "label": classes[i],
            "predicted": classes[j],
            "count": n,
            "of": totals[i],
            "anchor": anchors.get((classes[i], classes[j]), ""),
        }
        for i, j, n in cells
        if i != j
    ]
    return sorted(found, key=lambda pair: -pair["count"])[:_PAIRS]


SECTION = Section("confusion", "Confusion", build, order=50)
