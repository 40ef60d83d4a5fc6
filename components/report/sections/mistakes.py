"""The most confident mistakes of the model, which are often caused by wrong labels."""

from __future__ import annotations

from typing import Any

from imgpipe.components.report.section import Content, Context, Section

#: Ids of the first image on the page, by label and predicted class.
Anchors = dict[tuple[str, str], str]


def anchors(context: Context, split: str) -> Anchors:
    """Return the ids of the mistakes of a split to which the confusion matrix links."""
    found: Anchors = {}
    if not context.part("metrics").get(split):  # without them, this section shows no mistake
        return found
    for row in context.part("mistakes").get(split) or []:
        pair = str(row.get("label")), str(row.get("predicted"))
        found.setdefault(pair, f"mistakes-{split}-{len(found) + 1}")
    return found


def cam_key(image_hash: str) -> str:
    """Return the key of an image's Grad-CAM among the images of the page."""
    return f"cam-{image_hash}"


def build(context: Context) -> Content:
    """Return the mistakes with their images, by split."""
    if not context.part("metrics"):
        return context.absent("No image was classified by a trained model")
    splits = []
    for split, metrics in context.measured("metrics").items():
        rows = _rows(context, split)
        count = metrics.get("count") or 0
        wrong = max(count - (metrics.get("correct") or 0), len(rows))
        splits.append({"split": split, "rows": rows, "wrong": wrong, "count": count})
    return {"splits": splits}


def _rows(context: Context, split: str) -> list[dict[str, Any]]:
    """Return the mistakes with their images, those between the same classes side by side."""
    ids = anchors(context, split)
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = {pair: [] for pair in ids}
    for row in context.part("mistakes").get(split) or []:
        pair = str(row.get("label")), str(row.get("predicted"))
        shown = context.with_image(row)
        anchor = "" if by_pair[pair] else ids[pair]
        cam = context.thumbnails.uri(cam_key(str(row.get("image_hash"))))
        near = [context.with_image(other, small=True) for other in row.get("nearest") or []]
        by_pair[pair].append({**shown, "anchor": anchor, "cam": cam, "nearest": near})
    return [row for rows in by_pair.values() for row in rows]


SECTION = Section("mistakes", "Confident mistakes", build, order=70)
