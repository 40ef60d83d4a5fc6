"""Doubtful labels with their images, and the way to correct them."""

from __future__ import annotations

from imgpipe.components.report.doubtful_labels import CLEAR, REVIEW_FILE, clear
from imgpipe.components.report.section import Content, Context, Section

#: Images on the page; the file for review holds more.
SHOWN = 48


def build(context: Context) -> Content:
    """Return the first rows of the ranking, in two groups: clearly doubtful and less clear."""
    found = context.part("suspects")
    if not found:
        return context.absent("Labels were not checked: there are too few images or no features")
    rows = [context.with_image(row) for row in (found.get("rows") or [])[:SHOWN]]
    clearly = clear(rows)
    return {
        "found": found,
        "rows": rows,
        "groups": [("", clearly), ("less clear", rows[len(clearly) :])],
        "margin": CLEAR,
        "file": REVIEW_FILE,
    }


SECTION = Section("doubtful_labels", "Doubtful labels", build, order=95)
