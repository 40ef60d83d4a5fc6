"""Cross-validation: the accuracy on the held-out images of each fold."""

from __future__ import annotations

from imgpipe.components.report.section import Absent, Content, Context, Section
from imgpipe.components.report.text import plural


def build(context: Context) -> Content:
    """Return the mean and one row for each fold."""
    found = context.part("cross_validation")
    if not found:
        if note := context.facts.get("folds_note"):
            return Absent(str(note))
        if not context.part("settings").get("cross_validate"):
            return Absent(
                "The gate used the validation split, because evaluate.cross_validate is 0."
            )
        return context.absent("No folds were trained")
    apart = found.get("alike_apart") or 0
    return {
        "found": found,
        "rows": found.get("per_fold") or [],
        "by_epochs": found.get("by_search") or not context.part("training").get("solution"),
        "apart": plural(apart, "image") if apart else "",
    }


SECTION = Section("folds", "Cross-validation", build, order=40)
