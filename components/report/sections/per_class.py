"""Precision, recall and F1 of each class, validation and test side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import MEASURED, Absent, Context, Section
from imgpipe.components.report.text import capped

_SORTED_ABOVE = 30  # classes; with more, those with the lowest F1 come first
_ROWS = 200  # classes that are shown


def build(context: Context) -> Mapping[str, Any] | Absent:
    """Return one row for each class."""
    tables = {
        split: (context.part("metrics").get(split) or {}).get("per_class") or {}
        for split in MEASURED
    }
    splits = [split for split in MEASURED if tables[split]]
    if not splits:
        return context.absent("No image was classified by a trained model")
    classes = context.vocabulary or list(tables[splits[0]])
    numbered = len(classes) > _SORTED_ABOVE
    rows: list[dict[str, Any]] = [
        {"number": i, "name": name, "figures": [tables[split].get(name) or {} for split in splits]}
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
