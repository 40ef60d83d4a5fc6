"""How well the model answers: by split, fold, class and kind of image, and its mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from imgpipe.components.common.answer_table import AnsweredImage, ClassMetrics
from imgpipe.components.common.formatting import capped, plural, share
from imgpipe.components.image_evaluator.decision import FOLDS
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import section
from imgpipe.components.report.pictures.thumbnails import cam_key
from imgpipe.components.run_record.result import Result, folds_of, judged
from imgpipe.models import names
from imgpipe.models.head.certainty import AccuracyFigures

#: What was judged, and what it decided.
_ROLES = {
    FOLDS: "models that have not seen the image; they decided",
    names.VALIDATION: "the exported model; it decided",
    names.TEST: "the exported model; it decided nothing",
    "evaluation": "the served model",
}
#: Mistakes that are shown.
MOST_MISTAKES = 24


@section("figures", "Accuracy and calibration", order=130, numbers=True)
def figures(result: Result) -> Iterator[show.ResultBlock]:
    """Yield one row for what decided, and one for the test split, each with its interval."""
    rows: list[list[show.TableCell]] = []
    gate = result["gate"]
    for split, summary in result["metrics"].items():
        others = [summary["loss"], summary["ece"], summary["ece_by_chance"]]
        too_few = split == names.VALIDATION and gate is not None and not gate["decided_by"]["count"]
        role = show.Span(_ROLES[names.TEST if too_few else split], "muted")
        rows.append([split, *_reached(summary), *others, role])
        seen = summary["seen"]
        if seen is not None:
            apart = show.Span("the model knows these images, or their families", "muted")
            rows.append([f"{split}, known", *_reached(seen), "", "", "", apart])
    if not rows:
        return
    yield show.Sentence(
        "The interval is the 95 % Wilson score interval of the accuracy, of as many independent "
        "images as tell as much as these, which come in families. ECE is the expected calibration "
        "error of the predicted class over 15 bins: 0.02 means that the predicted probabilities "
        "differ from the accuracy by two percentage points on average. The next column shows the "
        "error that correct probabilities would have by chance on this number of images.",
        "muted",
    )
    columns = ("Split", "Images", "Correct", "Accuracy", "Interval")
    others_of = ("Log loss", "ECE", "ECE by chance", "Role")
    yield show.Table("Accuracy and calibration", (*columns, *others_of), rows)


def _reached(figures: AccuracyFigures) -> list[show.TableCell]:
    low, high = figures["ci95"]
    interval = f"{share(low)}–{share(high)}"
    return [figures["count"], figures["correct"], figures["accuracy"], interval]


@section("folds", "Cross-validation", order=132, numbers=True)
def cross_validation(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the mean and one row for each fold."""
    folds = folds_of(result)
    if folds is None:
        return
    spread = (
        f"The accuracies of the {folds['folds']} folds are {share(folds['min'])} to "
        f"{share(folds['max'])}, with a standard deviation of {share(folds['std'])}. The accuracy "
        f"of the verdict is that of their {folds['images']:,} images together."
    )
    if folds["automatic"]:
        few = plural(folds["validation_images"], "image")
        spread += f" The folds decided, because the validation split has only {few}."
    yield show.Sentence(spread)
    training = result["training"]
    learned = training is not None and names.VALIDATION in training["learned"]
    served = "all of these images" if learned else "the images of train alone"
    estimate = (
        "Each training and validation image was classified once, by a model that was trained "
        "without it and without its near-duplicates and the other images of its family. The "
        f"served model has learned from {served}. What was chosen by the same folds, such as the "
        "penalty of the head, may make the accuracy slightly too high."
    )
    apart = result["data"]["families"]["alike_apart"] if result["data"] is not None else 0
    if apart:
        estimate += (
            f" {plural(apart, 'image is', 'images are')} like others only by way of near-duplicates"
            " that were rejected: nothing confirms that these show the same, and each counts by "
            "itself."
        )
    yield show.Sentence(estimate, "muted")
    rows = [
        (str(number), fold["images"], fold["correct"], fold["accuracy"], fold["trained_on"])
        for number, fold in enumerate(folds["per_fold"], 1)
    ]
    yield show.Table("By fold", ("Fold", "Images", "Correct", "Accuracy", "Trained on"), rows)


@section("per_class", "Classes", order=134, numbers=True)
def per_class(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the explanation, and for each split a table; see `class_figures`."""
    metrics = result["metrics"]
    if not metrics:
        return
    yield show.Sentence(
        "Precision is the share of the images predicted as a class that have its label. Recall is "
        "the share of the images with a label that are predicted as its class. “–” means that "
        "there is no such image.",
        "muted",
    )
    for split, figures in metrics.items():
        yield class_figures(split, figures["per_class"])


def class_figures(split: str, per_class: Mapping[str, ClassMetrics]) -> show.Table:
    """Return one row for each class; of many, those with the lowest F1."""
    shown, note = capped(list(per_class.items()), lambda entry: _f1(entry[1]))
    rows: list[list[show.TableCell]] = []
    for name, of_class in shown:
        f1 = of_class["f1"] if of_class["count"] else None
        figures = [of_class["count"], of_class["precision"], of_class["recall"], f1]
        rows.append([show.Span(name, "name"), *figures])
    caption = f"The classes with the lowest F1 on {split}: {note}" if note else split
    columns = ("Class", "Images", "Precision", "Recall", "F1")
    return show.Table(f"Classes of {split}", columns, rows, caption=caption)


def _f1(figures: ClassMetrics) -> float:
    """Return the F1 as a sort key; a class without images comes last."""
    return figures["f1"] if figures["count"] else 2.0


@section("slices", "Accuracy by slice", order=136, numbers=True)
def slices(result: Result) -> Iterator[show.ResultBlock]:
    """Yield one row for each slice, with its interval and whether it is clearly weaker."""
    slices = result["slices"]
    if not slices:
        return
    several = len(result["metrics"]) > 1
    together = "Images of validation and test together. " if several else ""
    marked = (
        "A slice is marked if its interval lies below the accuracy of all images. The chance of "
        "5 % that an interval misses is divided among all slices."
    )
    yield show.Sentence(f"{together}{marked}", "muted")
    rows: list[list[show.TableCell]] = []
    for group in slices:
        for row in group["rows"]:
            low, high = row["ci95"]
            accuracy: show.TableCell = row["accuracy"]
            if high < group["accuracy"]:  # even the upper end is below the average
                accuracy = show.MarkedCell(f"{share(row['accuracy'])} weaker", "bad")
            interval = f"{share(low)}–{share(high)}"
            value = show.Span(row["value"], "name")
            rows.append([group["name"], value, row["count"], accuracy, interval])
    columns = ("Attribute", "Slice", "Images", "Accuracy", "Interval")
    yield show.Table("Accuracy by slice", columns, rows)


@section("mistakes", "Confident mistakes", order=128, numbers=True)
def mistakes(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the most confident mistakes, those between the same classes side by side."""
    answers = result["answers"]
    judged_by = judged(result)
    if answers is None or judged_by is None:
        return
    images = plural(judged_by["count"], "image")
    mistakes = answers["mistakes"][:MOST_MISTAKES]
    if not mistakes:
        yield show.Sentence(f"None of {images} was misclassified.")
        return
    wrong = judged_by["count"] - judged_by["correct"]
    shown = f"; the {len(mistakes)} most confident are shown" if wrong > len(mistakes) else ""
    yield show.Sentence(
        f"{wrong:,} of {images} misclassified{shown}. First check whether they are labelled "
        "correctly. The second image of a mistake, where there is one, shows what the served model "
        "looks at (Grad-CAM): red most, blue nothing."
    )
    pairs = list(dict.fromkeys((row["label"], row["predicted"]) for row in mistakes))
    by_pair = sorted(mistakes, key=lambda row: pairs.index((row["label"], row["predicted"])))
    yield show.Cards([_mistake(row) for row in by_pair], large=True)


def _mistake(row: AnsweredImage) -> show.Card:
    """Return the image of a mistake with its Grad-CAM, which only the first mistakes have."""
    path = row["path"]
    notes = (f"labelled {row['label']}", f"answered {row['predicted']}")
    looked_at = ("what the served model looks at (Grad-CAM)",)
    return (
        [
            show.Picture(row["image_hash"], path, notes),
            show.Picture(cam_key(row["image_hash"]), path, looked_at, optional=True),
        ],
        [
            (show.Span("labelled ", "muted"), show.Span(row["label"], "name")),
            (show.Span("answered ", "bad"), show.Span(row["predicted"], "name")),
            show.Span(f"probability {share(row['probability'])}", "muted"),
            show.Span(path, "path"),
        ],
    )
