"""The pictures of the report: right answers, more images, mistakes, the images, and their map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from typing_extensions import TypedDict

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.named_images import NamedImage
from imgpipe.components.report.page_facts import PageFacts
from imgpipe.components.report.pictures import map_picture, plots
from imgpipe.components.report.pictures.galleries import Gallery
from imgpipe.components.report.pictures.learning_curve import images_to_threshold, power_law
from imgpipe.components.report.section import Context, Section, SectionContent
from imgpipe.components.run_record.facts import Facts
from imgpipe.components.run_record.metrics import (
    MATRIX,
    CellImage,
    DecidingAnswers,
)

_NO_ANSWERS = "No image was classified by a trained model"
_IMAGES_OF_A_CELL = 4
_GALLERIES = 60  # classes with a row
_BARS = 30  # classes with a bar; of more, those with the fewest right answers
_JUDGED = {
    "folds": "Each image was answered in cross-validation, by a model that has not seen it.",
    "validation": "Answers for the validation split.",
    "evaluation": "Answers for the evaluated images.",
}


class _Bar(TypedDict):
    """The answers for a class, with the lengths of its bar and of its interval in percent."""

    name: str
    count: int
    correct: int
    share: str
    low: str
    width: str


class _Photo(TypedDict):
    """An image of many."""

    image: str  # data URI; "" without an image
    path: str


class _Cell(TypedDict):
    """A cell of the matrix."""

    count: int
    right: bool
    opacity: float
    predicted: str
    images: list[_Photo]


class _MatrixRow(TypedDict):
    """A row of the matrix."""

    label: str
    cells: list[_Cell]
    others: int  # answers of classes that are not in the matrix


def build_by_class(context: Context) -> SectionContent:
    """Return one bar for each class, the lowest first, and one for all classes."""
    deciding = context.facts["deciding"]
    if deciding is None:
        return context.absent(_NO_ANSWERS)
    bars = [
        _bar(name, of_class["correct"], of_class["count"], of_class["ci95"])
        for name, of_class in deciding["per_class"].items()
        if of_class["count"]
    ]
    bars.sort(key=lambda bar: (bar["correct"] / bar["count"], bar["name"]))
    note = f"The {_BARS} lowest of {len(bars):,} classes." if len(bars) > _BARS else ""
    return {
        "rows": bars[:_BARS],
        "every": _bar("all classes", deciding["correct"], deciding["count"], deciding["ci95"]),
        "threshold": deciding["threshold"],
        "limit": _percent(deciding["threshold"] or 0),
        "judged": _JUDGED[deciding["judged_by"]],
        "note": note,
    }


def _bar(name: str, correct: int, count: int, ci95: Sequence[float]) -> _Bar:
    low, high = ci95
    return {
        "name": name,
        "count": count,
        "correct": correct,
        "share": _percent(correct / count),
        "low": _percent(low),
        "width": _percent(high - low),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


BY_CLASS = Section("by_class", "Right answers by class", build_by_class, order=20)


def build_more_images(context: Context) -> SectionContent:
    """Plot the learning curve, and say how many images would reach the threshold."""
    training, gate = context.facts["training"], context.facts["gate"]
    solution = training["solution"] if training is not None else None
    curve = (solution["learning_curve"] or []) if solution is not None else []
    if training is None or solution is None or len(curve) < 2:
        return context.absent("There is no learning curve: it needs a solved head and folds")
    tuned = training["fine_tune"] is not None
    # Of a tuned network the curve is that of the head, which the threshold shows where to improve.
    threshold = (gate["threshold"] or None) if gate is not None else None
    images = images_to_threshold(training, gate)
    law = power_law(solution)
    last = curve[-1]["images"]
    beyond: list[tuple[float, float]] = []
    if law is not None:
        end = max(2 * last, 1.2 * (images or 0))
        steps = [last + (end - last) * step / 20 for step in range(21)]
        beyond = [(count, law.accuracy(count)) for count in steps]
    points = [(float(point["images"]), point["accuracy"]) for point in curve]
    return {
        "plot": plots.learning_curve(points, beyond, threshold, "more-images"),
        "images": images,
        "threshold": threshold,
        "tuned": tuned,
        "points": curve,
    }


MORE_IMAGES = Section("more_images", "Would more images help?", build_more_images, order=22)


def build_taken_for(context: Context) -> SectionContent:
    """Return one matrix of all answers that decide, with images in its cells."""
    deciding = context.facts["deciding"]
    if deciding is None:
        return context.absent(_NO_ANSWERS)
    classes = context.vocabulary
    wrong = deciding["count"] - deciding["correct"]
    if not deciding["matrix"]:
        return context.absent("No image was taken for another class")
    return {
        "classes": [classes[label] for label in deciding["matrix"]],
        "rows": _matrix_rows(context, deciding),
        "others": len(classes) > MATRIX,
        "wrong": wrong,
        "count": deciding["count"],
        "of": len(classes),
    }


def _matrix_rows(context: Context, deciding: DecidingAnswers) -> list[_MatrixRow]:
    """Return a row for each class, with its cells and its answers of other classes."""
    images: dict[tuple[int, int], list[CellImage]] = {}
    for image in deciding["images"]:
        images.setdefault((image["label"], image["predicted"]), []).append(image)
    counts = {(label, predicted): count for label, predicted, count in deciding["confusion"]}
    rows: list[_MatrixRow] = []
    for label in deciding["matrix"]:
        total = deciding["per_class"][context.vocabulary[label]]["count"]
        cells: list[_Cell] = []
        for predicted in deciding["matrix"]:
            count = counts.get((label, predicted), 0)
            chosen = images.get((label, predicted), [])[:_IMAGES_OF_A_CELL]
            cells.append(
                {
                    "count": count,
                    "right": label == predicted,
                    "opacity": 0.6 * math.sqrt(count / total) if total else 0.0,
                    "images": _photos(context, chosen),
                    "predicted": context.vocabulary[predicted],
                }
            )
        others = total - sum(cell["count"] for cell in cells)
        rows.append({"label": context.vocabulary[label], "cells": cells, "others": others})
    return rows


def _photos(context: Context, images: Sequence[NamedImage]) -> list[_Photo]:
    """Return images with their small thumbnails."""
    return [
        {"image": context.thumbnails.small_uri(image["image_hash"]), "path": image["path"]}
        for image in images
    ]


def _of_answers(facts: Facts) -> set[str]:
    deciding = facts["deciding"]
    return set() if deciding is None else {image["image_hash"] for image in deciding["images"]}


TAKEN_FOR = Section(
    "taken_for", "What is taken for what", build_taken_for, order=24, hashes=_of_answers
)


def build_gallery(context: Context) -> SectionContent:
    """Return a row of images for each class; of many classes, some rows are folded away."""
    galleries = context.facts["galleries"]
    if not galleries:
        return context.absent("No image was inspected")
    first, others = _gallery_classes(galleries, context.facts["deciding"])
    return {
        "groups": [
            [_gallery_row(context, galleries[label]) for label in labels]
            for labels in (first, others)
        ],
        "left_out": len(galleries) - len(first) - len(others),
        "least": any(gallery["least"] for gallery in galleries),
    }


def _gallery_row(context: Context, gallery: Gallery) -> dict[str, Any]:
    """Return the images of a class with their thumbnails."""
    return {
        "name": gallery["name"],
        "count": gallery["count"],
        "sample": _photos(context, gallery["sample"]),
        "least": _photos(context, gallery["least"]),
    }


def _gallery_classes(
    galleries: Sequence[Gallery], deciding: DecidingAnswers | None
) -> tuple[list[int], list[int]]:
    """Return the classes with a row of images, those of the matrix first, and the others."""
    first = list(range(min(MATRIX, len(galleries))))
    if deciding is not None and len(galleries) > MATRIX:
        first = deciding["matrix"] or first
    others = [label for label in range(len(galleries)) if label not in first]
    return first, others[: _GALLERIES - len(first)]


def _of_galleries(facts: PageFacts) -> set[str]:
    galleries = facts["galleries"]
    first, others = _gallery_classes(galleries, facts["deciding"])
    return {
        image["image_hash"]
        for label in (*first, *others)
        for image in (*galleries[label]["sample"], *galleries[label]["least"])
    }


GALLERY = Section("gallery", "Your images", build_gallery, order=26, hashes=_of_galleries)


def build_map(context: Context) -> SectionContent:
    """Draw the map, with the colours of its classes."""
    image_map = context.facts["map"]
    if image_map is None:
        return context.absent("There is no map: there are too few images, or no features")
    classes = context.vocabulary
    coloured: Sequence[int] = range(len(classes))
    if len(classes) > MATRIX:
        deciding = context.facts["deciding"]
        coloured = deciding["matrix"] if deciding is not None else []
    colours = map_picture.colours(coloured)
    hashes = [image["image_hash"] for image in image_map["images"]]
    files = {image_hash: context.thumbnails.file(image_hash) for image_hash in hashes}
    return {
        "picture": map_picture.draw(image_map, files, colours),
        "size": map_picture.size(image_map),
        "legend": [(classes[label], colour) for label, colour in colours.items()],
        "others": len(classes) > len(colours),
        "alt": f"Map of {plural(len(hashes), 'image')}",
    }


MAP = Section("map", "Map", build_map, order=28)
