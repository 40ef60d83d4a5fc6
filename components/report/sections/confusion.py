"""What is taken for what: a table in colours, or a picture where there are many classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from imgpipe.components.report import plots
from imgpipe.components.report.section import MEASURED, Absent, Context, Section

_TABLE = 20  # classes; a wider table is read by nobody
_PAIRS = 12  # most confused pairs named beside a picture


def build(context: Context) -> Mapping[str, Any] | Absent:
    """One matrix a measured split."""
    classes = context.vocabulary
    splits = []
    for split in MEASURED:
        counts = context.part("confusion").get(split)
        if not counts:
            continue
        classes = classes or [str(number) for number in range(1, len(counts) + 1)]
        small = len(counts) <= _TABLE
        splits.append(
            {
                "split": split,
                "rows": _rows(counts, classes) if small else [],
                "picture": "" if small else plots.matrix(counts, f"confusion-{split}"),
                "pairs": [] if small else _pairs(counts, classes),
                "count": sum(map(sum, counts)),
            }
        )
    if not splits:
        return context.absent("No image was put to a trained model")
    return {"splits": splits, "classes": classes}


def _rows(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Rows with (count, opacity, right or wrong) a cell; roots, so that one mistake is seen."""
    rows = []
    for i, row in enumerate(counts):
        total = sum(row)
        cells = [(n, 0.6 * math.sqrt(n / total) if total else 0, i == j) for j, n in enumerate(row)]
        rows.append({"label": classes[i], "cells": cells, "total": total})
    return rows


def _pairs(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent confusions, the largest first."""
    found: list[dict[str, Any]] = [
        {"label": classes[i], "predicted": classes[j], "count": n, "of": sum(row)}
        for i, row in enumerate(counts)
        for j, n in enumerate(row)
        if i != j and n
    ]
    return sorted(found, key=lambda pair: -pair["count"])[:_PAIRS]


SECTION = Section("confusion", "Confusion", build, order=50)
