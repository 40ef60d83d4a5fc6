"""The most confident mistakes of the model, which are often caused by wrong labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import MEASURED, Absent, Context, Section


def build(context: Context) -> Mapping[str, Any] | Absent:
    """Return the mistakes with their images, by split."""
    if not context.part("metrics"):
        return context.absent("No image was classified by a trained model")
    splits = []
    for split in MEASURED:
        metrics = context.part("metrics").get(split)
        if not metrics:
            continue
        rows = [
            {**row, "image": context.thumbnails.uri(row.get("image_hash"))}
            for row in context.part("mistakes").get(split) or []
        ]
        count = metrics.get("count") or 0
        wrong = max(count - (metrics.get("correct") or 0), len(rows))
        splits.append({"split": split, "rows": rows, "wrong": wrong, "count": count})
    return {"splits": splits}


SECTION = Section("mistakes", "Confident mistakes", build, order=70)
