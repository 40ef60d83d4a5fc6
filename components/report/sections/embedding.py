"""A map of the images by their features, with the mistakes marked."""

from __future__ import annotations

import collections

from imgpipe.components.report import plots
from imgpipe.components.report.section import Content, Context, Section
from imgpipe.models import feature_names as names

#: Signs of the classes in the legend, in the order of `plots.MARKERS`.
SIGNS = "●■▲◆▼✚★⬟"


def build(context: Context) -> Content:
    """Draw the map; of many classes, the largest ones are coloured."""
    found = context.part("embedding")
    points = found.get("points") or []
    if not points:
        return context.absent("No features are stored that could be drawn")
    counts = collections.Counter(point[2] for point in points)
    largest = sorted(counts, key=lambda label: (-counts[label], label))[: len(SIGNS)]
    coloured = sorted(largest)
    classes = context.vocabulary
    held_out = [names.SPLITS.index(split) for split in (names.VALIDATION, names.TEST)]
    return {
        "plot": plots.embedding(points, coloured, held_out),
        "found": found,
        "shown": len(points),
        "judged": bool(context.part("metrics")),
        "wrong": sum(point[4] for point in points),
        "legend": [
            (sign, classes[label] if label < len(classes) else str(label))
            for sign, label in zip(SIGNS, coloured, strict=False)
        ],
        "others": len(counts) - len(coloured),
    }


SECTION = Section("embedding", "Map of the images", build, order=75)
