"""Precision over recall of each class, for people who choose another threshold."""

from __future__ import annotations

from imgpipe.components.report import plots
from imgpipe.components.report.section import Content, Context, Section


def build(context: Context) -> Content:
    """Draw one plot for each split, with the average precision of the drawn classes."""
    splits = []
    for split, found in context.measured("precision_recall").items():
        curves = found.get("curves")
        if not curves:
            continue
        average = {one["name"]: one for one in found["classes"]}
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
