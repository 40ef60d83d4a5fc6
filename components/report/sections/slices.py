"""Accuracy by kinds of images, to find those on which the model is weak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.shares import wilson


def build(context: Context) -> Content:
    """Return one row for each slice, with its interval and whether it is clearly weaker."""
    found = [one for one in context.facts.get("slices") or [] if one.get("rows")]
    if not found:
        return context.absent("The images differ in nothing that could divide them into slices")
    groups = [
        {"name": one["name"], "rows": [_row(row, one["accuracy"]) for row in one["rows"]]}
        for one in found
    ]
    return {"groups": groups, "several": len(context.measured("metrics")) > 1}


def _row(row: Mapping[str, Any], usual: float) -> dict[str, Any]:
    interval = wilson(row["correct"], row["count"])
    return {
        **row,
        "accuracy": row["correct"] / row["count"],
        "interval": interval,
        "weak": interval[1] < usual,  # even the upper end of the interval is below the average
    }


SECTION = Section("slices", "Accuracy by slice", build, order=65)
