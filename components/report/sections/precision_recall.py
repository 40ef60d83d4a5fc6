"""Precision over recall of each class, for people who choose another threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report import plots
from imgpipe.components.report.section import MEASURED, Absent, Context, Section


def build(context: Context) -> Mapping[str, Any] | Absent:
    """Draw one plot for each split, with the average precision of the drawn classes."""
    splits = []
    for split in MEASURED:
        found = context.part("precision_recall").get(split)
        if not found or not found.get("curves"):
            continue
        average = {one["name"]: one for one in found["classes"]}
        curves = found["curves"]
        splits.append(
            {
                "split": split,
                "plot": plots.precision_recall(
                    [curve["points"] for curve in curves], f"precision-recall-{split}"
                ),
                "rows": [average[curve["name"]] for curve in curves],
                "classes": len(found["classes"]),
            }
        )
    if not splits:
        return context.absent("There are no probabilities of all classes")
    return {"splits": splits}


SECTION = Section("precision_recall", "Precision and recall", build, order=62)
