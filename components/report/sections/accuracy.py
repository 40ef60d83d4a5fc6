"""How well the model answers: by split, fold, class and kind of image, and its mistakes."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

from imgpipe.components.report import plots
from imgpipe.components.report.metrics import Cell
from imgpipe.components.report.section import Absent, Content, Context, Section
from imgpipe.components.report.text import capped, plural
from imgpipe.components.shares import wilson
from imgpipe.models import feature_names as names


def build_figures(context: Context) -> Content:
    """Return one row for each split, with its Wilson interval."""
    metrics = context.part("metrics")
    roles = {
        names.VALIDATION: _role_of_validation(context),
        names.TEST: "used only for this evaluation",
    }
    rows = []
    for split in filter(metrics.get, roles):
        summary = metrics[split]
        count, correct = summary.get("count") or 0, summary.get("correct") or 0
        interval = wilson(correct, count)
        rows.append({"split": split, "role": roles[split], "interval": interval, **summary})
    if not rows:
        return context.absent("No image was classified by a trained model")
    diagrams = [
        (split, plots.reliability(bins, f"reliability-{split}"))
        for split, bins in context.measured("reliability").items()
    ]
    return {"rows": rows, "diagrams": diagrams}


def _role_of_validation(context: Context) -> str:
    """Say what the validation split was used for."""
    training = context.part("training")
    search = training.get("search") or []
    task = "selects the epoch and calibrates the probabilities"
    if (training.get("calibration") or {}).get("chosen_on") == "folds":
        task = "selects nothing, because the folds select the network and calibrate it"
    elif len(search) > 1:
        task = "selects the network and the epoch, and calibrates the probabilities"
    elif training.get("solution") and not training.get("fine_tune"):
        task = "calibrates the probabilities"
    who = "the folds decide" if context.part("cross_validation") else "it decides"
    return f"{task}; {who} whether the model is blessed"


FIGURES = Section("figures", "Accuracy and calibration", build_figures, order=30)


def build_folds(context: Context) -> Content:
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


FOLDS = Section("folds", "Cross-validation", build_folds, order=40)


_TABLE = 20  # classes; a wider table is hard to read
_PAIRS = 12  # most frequent confusions listed beside a plot


def build_confusion(context: Context) -> Content:
    """Make one matrix for each split."""
    classes = context.vocabulary
    splits = []
    for split, cells in context.measured("confusion").items():
        most = max(max(label, predicted) for label, predicted, _ in cells)
        classes = classes or [str(number) for number in range(1, most + 2)]
        small = len(classes) <= _TABLE
        links = anchors(context, split)
        splits.append(
            {
                "split": split,
                "rows": _cells(cells, classes, links) if small else [],
                "plot": "" if small else plots.matrix(cells, len(classes), f"confusion-{split}"),
                "pairs": [] if small else _pairs(cells, classes, links),
                "count": sum(count for _, _, count in cells),
            }
        )
    if not splits:
        return context.absent("No image was classified by a trained model")
    return {"splits": splits, "classes": classes}


def _cells(cells: Sequence[Cell], classes: Sequence[str], anchors: Anchors) -> list[dict[str, Any]]:
    """Make rows of cells; the square root of the opacity makes single mistakes visible."""
    counts = [[0] * len(classes) for _ in classes]
    for label, predicted, count in cells:
        counts[label][predicted] = count
    rows = []
    for i, row in enumerate(counts):
        total = sum(row)
        shown = [
            {
                "count": n,
                "opacity": 0.6 * math.sqrt(n / total) if total else 0,
                "right": i == j,
                "anchor": anchors.get((classes[i], classes[j]), ""),
            }
            for j, n in enumerate(row)
        ]
        rows.append({"label": classes[i], "cells": shown, "total": total})
    return rows


def _pairs(cells: Sequence[Cell], classes: Sequence[str], anchors: Anchors) -> list[dict[str, Any]]:
    """Return the most frequent confusions, the largest first."""
    totals: collections.Counter[int] = collections.Counter()
    for label, _, count in cells:
        totals[label] += count
    found: list[dict[str, Any]] = [
        {
            "label": classes[i],
            "predicted": classes[j],
            "count": n,
            "of": totals[i],
            "anchor": anchors.get((classes[i], classes[j]), ""),
        }
        for i, j, n in cells
        if i != j
    ]
    return sorted(found, key=lambda pair: -pair["count"])[:_PAIRS]


CONFUSION = Section("confusion", "Confusion", build_confusion, order=50)


_SORTED_ABOVE = 30  # classes; with more, those with the lowest F1 come first
_MOST_CLASSES = 200  # classes that are shown


def build_per_class(context: Context) -> Content:
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
    shown, note = capped(rows, _MOST_CLASSES)
    return {"splits": splits, "rows": shown, "note": note, "numbered": numbered}


def _f1(figures: Mapping[str, Any]) -> float:
    """Return the F1 as a sort key; a class without images comes last."""
    return figures.get("f1") or 0.0 if figures.get("count") else 2.0


PER_CLASS = Section("per_class", "Classes", build_per_class, order=60)


def build_slices(context: Context) -> Content:
    """Return one row for each slice, with its interval and whether it is clearly weaker."""
    found = [one for one in context.facts.get("slices") or [] if one.get("rows")]
    if not found:
        return context.absent("The images differ in nothing that could divide them into slices")
    groups = [
        {"name": one["name"], "rows": [_slice(row, one["accuracy"]) for row in one["rows"]]}
        for one in found
    ]
    return {"groups": groups, "several": len(context.measured("metrics")) > 1}


def _slice(row: Mapping[str, Any], usual: float) -> dict[str, Any]:
    interval = wilson(row["correct"], row["count"])
    return {
        **row,
        "accuracy": row["correct"] / row["count"],
        "interval": interval,
        "weak": interval[1] < usual,  # even the upper end of the interval is below the average
    }


SLICES = Section("slices", "Accuracy by slice", build_slices, order=65)


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


def build_mistakes(context: Context) -> Content:
    """Return the mistakes with their images, by split."""
    if not context.part("metrics"):
        return context.absent("No image was classified by a trained model")
    splits = []
    for split, metrics in context.measured("metrics").items():
        rows = _mistake_rows(context, split)
        count = metrics.get("count") or 0
        wrong = max(count - (metrics.get("correct") or 0), len(rows))
        splits.append({"split": split, "rows": rows, "wrong": wrong, "count": count})
    return {"splits": splits}


def _mistake_rows(context: Context, split: str) -> list[dict[str, Any]]:
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


MISTAKES = Section("mistakes", "Confident mistakes", build_mistakes, order=70)
