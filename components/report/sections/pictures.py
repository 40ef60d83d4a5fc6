"""The pictures of the report: right answers, more images, mistakes, the images, and their map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from imgpipe.components.common.answer_table import ClassMetrics
from imgpipe.components.common.formatting import plural, share
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import section
from imgpipe.components.report.commands import review_command, would_more_help
from imgpipe.components.report.pictures import plots
from imgpipe.components.report.pictures.plots import (
    images_to_threshold,
    photographs_to_add,
    power_law,
)
from imgpipe.components.run_record.metrics import (
    MATRIX,
    JudgedAnswers,
    Remaining,
    SplitMetrics,
)
from imgpipe.components.run_record.result import Result, judged
from imgpipe.components.run_record.shown_images import Gallery

_GALLERIES = 60  # classes with a row
_BARS = 30  # classes with a bar; of more, those with the fewest right answers
_REMAIN = (1.0, 0.95, 0.9, 0.8, 0.6)  # shares of the images that are answered, a row each
_STRONGEST = 0.6  # opacity of a cell of the matrix that holds all images of its row
_JUDGED = {
    "folds": "Each image was answered in cross-validation, by a model that has not seen it.",
    "validation": "Answers for the validation split.",
    "evaluation": "Answers for the evaluated images.",
}


@section("by_class", "Right answers by class", order=20)
def by_class(result: Result) -> Iterator[show.ResultBlock]:
    """Yield one bar for each class, the lowest first, and one for all classes."""
    deciding = result["answers"]
    every = judged(result)
    if deciding is None or every is None:
        return
    threshold = deciding["threshold"]
    classes = [entry for entry in every["per_class"].items() if entry[1]["count"]]
    classes.sort(key=lambda entry: (entry[1]["correct"] / entry[1]["count"], entry[0]))
    caption = _JUDGED[deciding["judged_by"]]
    if len(classes) > _BARS:
        caption += f" The {_BARS} lowest of {len(classes):,} classes."
    caption += " The thin line is the 95 % interval"
    if threshold:
        caption += f", the upright one the accuracy that is asked for, {threshold:g}"
    yield show.Table(
        "Right answers by class",
        ("Class", "Share", "Right"),
        [
            _bar(_seen_with(result, name, name), figures, threshold)
            for name, figures in classes[:_BARS]
        ],
        total=_bar(show.Span("all classes", "name"), every, threshold),
        caption=f"{caption}.",
        look="bars",
    )


def _seen_with(result: Result, text: str, what: str) -> show.CommandLink | show.Span:
    """Return a text of which a click shows the command that shows all images of a class or cell.

    A page without a run, as that of an evaluation, has only the text.
    """
    if not result["folder"]:
        return show.Span(text, "name")
    command = review_command(result, what)
    return show.CommandLink(text, f"See all images of {what}", command)


def _bar(
    name: show.Inline, figures: ClassMetrics | SplitMetrics, threshold: float | None
) -> list[show.TableCell]:
    low, high = figures["ci95"]
    bar = show.Bar(figures["correct"] / figures["count"], low, high, threshold or None)
    return [name, bar, f"{figures['correct']:,} of {figures['count']:,}"]


@section("more_images", "Would more images help?", order=22)
def more_images(result: Result) -> Iterator[show.ResultBlock]:
    """Plot the learning curve, and say how many images would reach the threshold."""
    training = result["training"]
    gate = result["gate"]
    solution = training["solution"] if training is not None else None
    curve = (solution["learning_curve"] or []) if solution is not None else []
    if training is None or solution is None or len(curve) < 2:
        return
    threshold = gate["threshold"] if gate is not None else None
    images = images_to_threshold(training, gate)
    law = power_law(solution)
    last = curve[-1]["images"]
    beyond: list[tuple[float, float]] = []
    if law is not None:
        end = max(2 * last, 1.2 * (images or 0))
        steps = [last + (end - last) * step / 20 for step in range(21)]
        beyond = [(count, law.accuracy(count)) for count in steps]
    points = [(float(point["images"]), point["accuracy"]) for point in curve]
    plot = plots.learning_curve(points, beyond, threshold, "more-images")
    yield show.Sentence(photographs_to_add(result) or would_more_help(solution))
    of_head = "of the head " if training["fine_tune"] is not None else ""
    caption = f"Accuracy {of_head}by number of training images"
    values = ", ".join(f"{point['images']:,}: {share(point['accuracy'])}" for point in curve)
    yield show.Curves([(plot, [caption, show.Span(f": {values}", "unseen"), "."])])


@section("taken_for", "What is taken for what", order=24)
def taken_for(result: Result) -> Iterator[show.ResultBlock]:
    """Yield one matrix of all answers that decide, with images in its cells."""
    deciding = result["answers"]
    figures = judged(result)
    if deciding is None or figures is None or not deciding["matrix"]:
        return
    wrong = figures["count"] - figures["correct"]
    of = plural(figures["count"], "image")
    words = (
        f"{wrong:,} of {of} {'is' if wrong == 1 else 'are'} taken for another class. Rows are "
        "labels, columns are answers; the surest images are shown. Click a number to see all."
    )
    if len(result["classes"]) > MATRIX:
        shown = len(deciding["matrix"])
        words += f" The {shown} of {len(result['classes']):,} classes that are confused most."
    yield show.Sentence(words, "muted")
    yield matrix(result, deciding, figures)


def matrix(result: Result, deciding: JudgedAnswers, figures: SplitMetrics) -> show.Table:
    """Return the table of labels and answers, with images in its cells."""
    classes = result["classes"]
    shown = deciding["matrix"]
    columns = ["", *(classes[label] for label in shown)]
    if len(classes) > MATRIX:
        columns.append("others")
    rows = [_matrix_row(result, deciding, figures["per_class"], label) for label in shown]
    return show.Table("What is taken for what", columns, rows, look="matrix")


def _matrix_row(
    result: Result,
    deciding: JudgedAnswers,
    per_class: Mapping[str, ClassMetrics],
    label: int,
) -> list[show.TableCell]:
    """Return the row of a label, with a cell for each answer and one for answers of others."""
    classes = result["classes"]
    counts = {predicted: count for of, predicted, count in deciding["confusion"] if of == label}
    cells: list[show.TableCell] = [show.Span(classes[label], "name")]
    total = per_class[classes[label]]["count"]
    for predicted in deciding["matrix"]:
        count = counts.pop(predicted, 0)
        answer = (f"labelled {classes[label]}", f"answered {classes[predicted]}")
        photos = [
            show.Picture(image["image_hash"], image["path"], answer, many=True)
            for image in deciding["images"]
            if (image["label"], image["predicted"]) == (classes[label], classes[predicted])
        ]
        strength = _STRONGEST * math.sqrt(count / total) if total else 0.0
        cell = f"{classes[label]}:{classes[predicted]}"
        words: list[show.Inline] = [_seen_with(result, f"{count:,}", cell)] if count else []
        words += photos
        right = label == predicted
        cells.append(show.MarkedCell(words, "right" if right else "wrong", strength))
    if len(classes) > MATRIX:
        cells.append(sum(counts.values()) or "")
    return cells


@section("unsure", "Unsure answers", order=25)
def unsure(result: Result) -> Iterator[show.ResultBlock]:
    """Plot how many answers remain as more certainty is asked for, and how many are right."""
    deciding = result["answers"]
    rows = deciding["remaining"] if deciding is not None else []
    if len(rows) < 2 or rows[0]["right"] == rows[0]["answered"]:
        return
    images = rows[0]["answered"]
    enough = [[row for row in rows if row["answered"] >= least * images][-1] for least in _REMAIN]
    chosen = list({row["below"]: row for row in enough}.values())
    words = "To ask for more makes hardly more of the answers right."
    better = [row for row in chosen if _percent_right(row) > _percent_right(rows[0])]
    if better:
        answered = math.floor(100 * better[0]["answered"] / images)
        right = _percent_right(better[0])
        below = f"{better[0]['below']:.2f}"
        words = (
            f"To answer {answered} % of images with {right} % right, ask for {below} "
            "(predict --unsure-below)."
        )
    yield show.Sentence(words)
    cells: list[list[show.TableCell]] = [
        [f"{row['below']:.2f}", row["answered"], _right(row)] for row in chosen
    ]
    yield show.Table("Answers", ("Ask for", "Answered", "Right"), cells)
    plot = plots.remaining_answers(
        [row["below"] for row in rows[1:]],
        [row["answered"] / images for row in rows[1:]],
        [_right(row) for row in rows[1:]],
        "unsure",
    )
    yield show.Curves([(plot, "Answered (dashed), and right of these (solid)")])


def _right(row: Remaining) -> float:
    return row["right"] / row["answered"]


def _percent_right(row: Remaining) -> int:
    return math.floor(100 * _right(row))


@section("gallery", "Your images", order=26)
def gallery(result: Result) -> Iterator[show.ResultBlock]:
    """Yield a row of images for each class; of many classes, some rows are folded away."""
    galleries = result["galleries"]
    if not any(gallery["count"] for gallery in galleries):
        return
    first, others = _gallery_classes(galleries, result["answers"])
    if any(gallery["least"] for gallery in galleries):
        yield show.Sentence(
            "Some images of each class, chosen at random; framed: those that are least like the "
            "others of their class.",
            "muted",
        )
    for label in first:
        yield _gallery_row(result, galleries[label])
    if others:
        summary = plural(len(others), "more class", "more classes")
        yield show.Folded(summary, [_gallery_row(result, galleries[label]) for label in others])
    left_out = len(galleries) - len(first) - len(others)
    if left_out:
        classes = plural(left_out, "class has", "classes have")
        yield show.Sentence(f"{classes} no row.", "muted")


def _gallery_row(result: Result, gallery: Gallery) -> show.Photos:
    """Return some images of a class, and those that are least typical of it."""
    name = gallery["name"]
    label = f"labelled {name}"
    pictures = [
        show.Picture(image["image_hash"], image["path"], notes, framed, many=True)
        for notes, framed, images in (
            ((label,), False, gallery["sample"]),
            ((label, "least like the others of its class"), True, gallery["least"]),
        )
        for image in images
    ]
    count = show.Span(f" {plural(gallery['count'], 'image')}", "muted")
    return show.Photos(pictures, (_seen_with(result, name, name), count))


def _gallery_classes(
    galleries: Sequence[Gallery], deciding: JudgedAnswers | None
) -> tuple[list[int], list[int]]:
    """Return the classes with a row of images, those of the matrix first, and the others."""
    first = list(range(min(MATRIX, len(galleries))))
    if deciding is not None and len(galleries) > MATRIX:
        first = deciding["matrix"] or first
    others = [label for label in range(len(galleries)) if label not in first]
    return first, others[: _GALLERIES - len(first)]


@section("map", "Map", order=28)
def map_of_images(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the map, with the colours of its classes."""
    image_map = result["map"]
    if image_map is None:
        return
    classes = result["classes"]
    coloured: Sequence[int] = range(len(classes))
    if len(classes) > MATRIX:
        deciding = result["answers"]
        coloured = deciding["matrix"] if deciding is not None else []
    colours = plots.map_colours(coloured)
    legend = [(colour, classes[label]) for label, colour in colours.items()]
    if len(classes) > len(colours):
        legend.append((plots.GREY, "other classes"))
    yield show.Legend([*legend, ("dot", "mistake")])
    images = plural(len(image_map["images"]), "image")
    side_by_side = "similar images lie side by side, a frame has the colour of the label"
    title = f"Map of {images}: {side_by_side}, and a dot marks a mistake"
    yield show.Map(image_map, colours, title)
