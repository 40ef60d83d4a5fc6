"""The result of an evaluation: its metrics, its verdict and what the metrics do not show."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common import shares
from imgpipe.components.common.counts import ClassMetrics
from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.shares import AccuracyFigures
from imgpipe.components.run_record.metrics import Mistake, Table
from imgpipe.components.run_record.slices import SliceGroup, Slices
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.json_object import SCHEMA, SchemaNumber
from imgpipe.models.names import feature_names as names
from imgpipe.pipeline.published.model import Model

if TYPE_CHECKING:
    from imgpipe.components.common.prediction import StoredPrediction
    from imgpipe.pipeline.published.seen_images import SeenImages

_NAMED = 20  # images and labels of each kind that are named
_EXPLAINED = 3  # files that a sentence names with their reasons


class Confusion(TypedDict):
    """A cell of the confusion matrix that is not 0."""

    label: Annotated[str, "The label."]
    predicted: Annotated[str, "The predicted class."]
    count: Annotated[int, "Number of images."]


class ExcludedFile(TypedDict):
    """A file that could not be evaluated."""

    path: Annotated[str, "Path in the source."]
    why: Annotated[str, "The error."]


class ExcludedFiles(TypedDict):
    """Files that could not be evaluated."""

    count: Annotated[int, "Number of files."]
    first: Annotated[list[ExcludedFile], "The first of these files."]


class SeenImage(TypedDict):
    """An image, or a near-duplicate of one, that was in the data of the run of the model."""

    path: Annotated[str, "Path in the source."]
    split: Annotated[str, "Split of the image in the run."]


class SeenCounts(TypedDict):
    """Images that were in the data of the run that made the model."""

    count: Annotated[int, "Number of images."]
    by_split: Annotated[dict[str, int], "Number of images by split in the run."]
    first: Annotated[list[SeenImage], "The first of these images."]


class EvaluationFigures(AccuracyFigures):
    """What was evaluated, and what was measured."""

    schema: SchemaNumber
    model: Annotated[str, "Folder of the version."]
    version: Annotated[
        int | None, "Number of the version; null if its folder is not named by a number."
    ]
    source: Annotated[str, "The source of the images."]
    classes: Annotated[
        list[str],
        "Class names, in the order of the probabilities; then `unknown`, if images have this label "
        "and the model answers it.",
    ]
    images: Annotated[
        int, "Number of images of the source, including those that could not be evaluated."
    ]
    loss: Annotated[float | None, "Cross-entropy of the images of a class; null if there are none."]
    ece: Annotated[float | None, "Expected calibration error of these images."]
    ece_by_chance: Annotated[
        float | None,
        "What it would be on average on this number of images if all probabilities were correct.",
    ]
    answered_unknown: Annotated[
        int, "Images of a class that the model answers with `unknown` (model.unknown_rate)."
    ]
    per_class: Annotated[dict[str, ClassMetrics], "Metrics by class."]
    confusion: Annotated[list[Confusion], "Cells of the confusion matrix that are not 0."]
    slices: Annotated[list[SliceGroup], "Accuracy by kind of image."]
    mistakes: Annotated[list[Mistake], "The most confident mistakes."]
    undecodable: Annotated[
        ExcludedFiles, "Files that could not be read or decoded; they are not evaluated."
    ]
    unknown_labels: Annotated[
        dict[str, int],
        "Number of images whose label is not a class of the model, by label; they are not "
        "evaluated.",
    ]
    seen: Annotated[
        SeenCounts | None,
        "Images that were in the data of the run that made the model; null if that is not known. "
        "Near-duplicates count as long as the artifacts of the run exist.",
    ]
    unseen: Annotated[
        AccuracyFigures | None,
        "The accuracy without the images of `seen` that are in train or validation; null if there "
        "are none.",
    ]
    threshold: Annotated[
        float | None, "Accuracy that the model has to reach; null if it has to reach none."
    ]
    passed: Annotated[bool, "Whether the accuracy reaches the threshold."]


class EvaluationSummary(EvaluationFigures):
    """What a published model answers for labelled images."""

    verdict: Annotated[str, "The result as a sentence."]
    warnings: Annotated[list[str], "Sentences about what the metrics do not show."]


@dataclass
class JudgedAnswers:
    """The images of an evaluation, of which only hashes, figures and answers are kept.

    Attributes:
        rows: The images that were judged, with their predictions.
        hashes: Their perceptual hashes by content hash; b"" for an image that cannot be compared.
        undecodable: Files that cannot be read or decoded.
        unknown: Number of images by label, of labels that are none of the model's classes.
        seen: The images that the run of the version had; None if that is not known.
        by_served_label: Whether "unknown" is judged as an answer, because images have this label.
            Otherwise the most probable class is judged, as in a run.
        answered_unknown: Paths of the images to which the model answers "unknown".
    """

    rows: list[StoredPrediction] = field(default_factory=list)
    hashes: dict[str, bytes] = field(default_factory=dict)
    undecodable: list[ExcludedFile] = field(default_factory=list)
    unknown: collections.Counter[str] = field(default_factory=collections.Counter)
    seen: SeenImages | None = None
    by_served_label: bool = False
    answered_unknown: set[str] = field(default_factory=set)

    def vocabulary(self, model: Model) -> tuple[str, ...]:
        """Return the labels that are judged: the classes, and "unknown" where images have it."""
        return (*model.vocabulary, *([names.UNKNOWN] if self.by_served_label else []))

    def served(self, classes: int) -> list[StoredPrediction]:
        """Return the images with what is judged as their prediction.

        Args:
            classes: Number of classes, which is the index of "unknown".
        """
        if not self.by_served_label:
            return self.rows
        return [
            replace(row, predicted=classes) if row.path in self.answered_unknown else row
            for row in self.rows
        ]


def summarise(
    model: Model, source: str, judged: JudgedAnswers, threshold: float
) -> EvaluationSummary:
    """Compute the result of an evaluation.

    Args:
        model: The version that was evaluated.
        source: Name of the source of the images.
        judged: The predictions.
        threshold: Accuracy that the model has to reach; 0 if it has to reach none.

    Raises:
        ConfigError: No image could be judged.
    """
    excluded = _excluded(judged)
    if not judged.rows:
        raise ConfigError(
            f"{source}: no image could be evaluated. {excluded} Expected: images that the "
            "model decodes (JPEG, PNG, BMP, GIF, WebP), with labels that it knows."
        )
    figures = _figures(model, source, judged, threshold)
    warnings = [model.notice] if model.notice else []
    warnings += [f"Not evaluated: {excluded}"] if excluded else []
    warnings += _about_unknown(figures, judged.by_served_label)
    warnings += _about_seen(figures, judged.seen)
    warnings += _about_classes(figures["per_class"])
    return {**figures, "verdict": _verdict(figures), "warnings": warnings}


def _figures(
    model: Model, source: str, judged: JudgedAnswers, threshold: float
) -> EvaluationFigures:
    kinds = Slices()
    vocabulary = judged.vocabulary(model)
    rows = judged.served(len(model.vocabulary))
    table = Table(vocabulary, kinds.counted(rows))
    of_classes = [row for row in judged.rows if row.label_index < len(model.vocabulary)]
    metrics = Table(vocabulary, of_classes).summary() if of_classes else None
    overall = table.counts.figures()
    splits = judged.seen.splits if judged.seen else {}
    # Images that the model was made with raise the accuracy, so it is computed without them too.
    used = {image_hash for image_hash, split in splits.items() if split != names.TEST}
    new = [row for row in rows if row.image_hash not in used]
    undecodable = judged.undecodable
    return {
        "schema": SCHEMA,
        "model": str(model.folder),
        "version": model.version,
        "source": source,
        "classes": list(vocabulary),
        "images": len(judged.rows) + len(undecodable) + judged.unknown.total(),
        **overall,
        "loss": metrics and metrics["loss"],
        "ece": metrics and metrics["ece"],
        "ece_by_chance": metrics and metrics["ece_by_chance"],
        "answered_unknown": sum(row.path in judged.answered_unknown for row in of_classes),
        "per_class": table.summary()["per_class"],
        "confusion": [
            {
                "label": vocabulary[label],
                "predicted": vocabulary[predicted],
                "count": count,
            }
            for label, predicted, count in table.confusion
        ],
        "slices": kinds.summary(),
        "mistakes": table.mistakes(),
        "undecodable": {"count": len(undecodable), "first": undecodable[:_NAMED]},
        "unknown_labels": dict(sorted(judged.unknown.items())),
        "seen": None if judged.seen is None else _count_seen(judged.rows, splits),
        "unseen": _accuracy(new) if used and new else None,
        "threshold": threshold or None,  # every accuracy reaches 0
        "passed": (overall["accuracy"] or 0.0) >= threshold,
    }


def _accuracy(rows: Sequence[StoredPrediction]) -> AccuracyFigures:
    return shares.accuracy_figures(sum(row.correct for row in rows), len(rows))


def _count_seen(rows: Sequence[StoredPrediction], splits: Mapping[str, str]) -> SeenCounts:
    """Count the images that the run had, by its split."""
    seen: list[SeenImage] = [
        {"path": row.path, "split": splits[row.image_hash]}
        for row in rows
        if row.image_hash in splits
    ]
    by_split = collections.Counter(image["split"] for image in seen)
    return {
        "count": len(seen),
        "by_split": dict(sorted(by_split.items())),
        "first": seen[:_NAMED],
    }


def _correct(figures: AccuracyFigures) -> str:
    return shares.correct_text(figures["correct"], figures["count"])


def _verdict(figures: EvaluationFigures) -> str:
    accuracy = figures["correct"] / figures["count"]
    threshold = figures["threshold"]
    interval = shares.interval_text(figures["ci95"])
    missed = threshold is not None and not figures["passed"]
    number = shares.text_below(accuracy, threshold) if threshold and missed else f"{accuracy:.3f}"
    sentence = f"accuracy {number} ({_correct(figures)}, {interval})"
    if threshold is None:
        return sentence
    return f"{sentence} {'is below' if missed else 'reaches'} the threshold {threshold:g}"


def _excluded(judged: JudgedAnswers) -> str:
    """Say how many images could not be judged, and why; "" if there are none."""
    sentences = []
    if judged.undecodable:
        first = judged.undecodable[:_EXPLAINED]
        reasons = "; ".join(f"{file['path']}: {file['why']}" for file in first)
        count = plural(len(judged.undecodable), "file")
        sentences.append(f"{count} cannot be read or decoded ({reasons}).")
    if judged.unknown:
        labels = join_names(sorted(label or "no label" for label in judged.unknown), _NAMED)
        count = plural(judged.unknown.total(), "image")
        sentences.append(f"The label of {count} is no class of the model ({labels}).")
    return " ".join(sentences)


def _about_classes(per_class: Mapping[str, ClassMetrics]) -> list[str]:
    """Return a sentence about classes without images, if there are such."""
    missing = [name for name, row in per_class.items() if not row["count"]]
    if len(missing) == len(per_class) - 1:
        [only] = set(per_class) - set(missing)
        return [
            f"All evaluated images are of the class {only}, so the accuracy is its recall, and "
            "precision and F1 say nothing."
        ]
    if missing:
        named = join_names(missing, _NAMED)
        which = "the class" if len(missing) == 1 else f"{len(missing):,} classes:"
        return [f"There are no images of {which} {named}."]
    return []


def _about_unknown(figures: EvaluationFigures, by_served_label: bool) -> Iterator[str]:
    """Yield how the answer "unknown" is judged, if it was given to images of a class."""
    count = figures["answered_unknown"]
    images = plural(count, "image of a class is", "images of a class are")
    if by_served_label:
        yield (
            f"Some images have the label unknown, so unknown is judged as an answer: {images} "
            "answered so, which counts as wrong. Loss and calibration are those of the images of a "
            "class."
        )
    elif count:
        yield (
            f"{images[:1].upper()}{images[1:]} answered unknown (model.unknown_rate). As in a run, "
            "the most probable class is judged."
        )


def _about_seen(figures: EvaluationFigures, training_images: SeenImages | None) -> Iterator[str]:
    """Yield sentences about images of the run: those that it used, and those of its test split."""
    seen = figures["seen"]
    if seen is None or training_images is None:
        yield (
            "It is not known which images the model was trained on, because the run that made it "
            "or its artifacts are gone. If some of these images are among them, the accuracy is "
            "too high."
        )
        return
    if not training_images.with_near:
        yield (
            "The images of the run that made the model are gone, so that only the same files were "
            "looked for. If near-duplicates of them are among these images, the accuracy is too "
            "high."
        )
    counts = {split: count for split, count in seen["by_split"].items() if split != names.TEST}
    used = sum(counts.values())
    if used:
        rest = "No image is new to the model."
        without = figures["unseen"]
        if without is not None:
            accuracy = without["correct"] / without["count"]
            rest = f"Without them the accuracy is {accuracy:.3f} ({_correct(without)})."
        listed = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
        near = ", or near-duplicates of them," if training_images.with_near else ""
        yield (
            f"{used:,} of these images{near} were in the data of the run that made the model "
            f"({listed}), so the accuracy is too high. {rest}"
        )
    unused = seen["count"] - used
    if unused:
        yield (
            f"The run that made the model had {unused:,} of these images in its test split. It "
            "neither trained nor decided with that split, so they do not raise the accuracy."
        )
