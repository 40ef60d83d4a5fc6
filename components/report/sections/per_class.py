"""Precision, recall and F1 of each class, validation and test side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.report.text import capped

_SORTED_ABOVE = 30  # classes; with more, those with the lowest F1 come first
_ROWS = 200  # classes that are shown


def build(context: Context) -> Content:
    """Return one row for each class."""
    tables = {
        split: metrics["per_class"]
        for split, metrics in context.measured("metrics").items()
        if metrics.get("per_class")
    }
    if not tables:
        return context.absent("No image was classified by a trained model")
    splits = list(tables)
    classes = context.vocabulary or list(tables[splits[0]])
    numbered = len(classes) > _SORTED_ABOVE
    rows: list[dict[str, Any]] = [
        {"number": i, "name": name, "figures": [table.get(name) or {} for table in tables.values()]}
        for i, name in enumerate(classes, 1)
    ]
    if numbered:
        rows.sort(key=lambda row: _f1(row["figures"][0]))
    shown, note = capped(rows, _ROWS)
    return {"splits": splits, "rows": shown, "note": note, "numbered": numbered}


def _f1(figures: Mapping[str, Any]) -> float:
    """Return the F1 as a sort key; a class without images comes last."""
    return figures.get("f1") or 0.0 if figures.get("count") else 2.0


SECTION = Section("per_class", "Classes", build, order=60)
