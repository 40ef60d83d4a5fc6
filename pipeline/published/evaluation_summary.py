"""The result of an evaluation: its metrics, its verdict and what the metrics do not show."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.answer_table import AnswerTable, ClassMetrics
from imgpipe.components.common.formatting import (
    correct_text,
    interval_text,
    join_names,
    plural,
    text_below,
)
from imgpipe.components.image_evaluator.rules import interval_ruling
from imgpipe.components.run_record.metrics import (
    Mistake,
    SliceGroup,
    SplitMetrics,
    metrics,
    mistakes,
    slices,
)
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.json_object import SCHEMA, SchemaNumber
from imgpipe.models.finding import Example, Finding, in_files, make_finding
from imgpipe.models.head.certainty import AccuracyFigures
from imgpipe.pipeline.output.model import Model

_NAMED = 20  # images and labels of each kind that are named
_EXPLAINED = 3  # files that a sentence names with their reasons


class Confusion(TypedDict):
    """A cell of the confusion matrix that is not 0."""

    label: Annotated[str, "The label."]
    predicted: Annotated[str, "The predicted class."]
    count: Annotated[int, "Number of images."]


class SeenImage(TypedDict):
    """An image, or a near-duplicate of one, that was in the data of the run of the model."""

    path: Annotated[str, "Path in the source."]
    split: Annotated[str, "Split of the image in the run."]


class SeenCounts(TypedDict):
    """Images that were in the data of the run that made the model."""

    count: Annotated[int, "Number of images."]
    by_split: Annotated[dict[str, int], "Number of images by split in the run."]
    first: Annotated[list[SeenImage], "The first of these images."]


class EvaluationSummary(SplitMetrics):
    """What a published model answers for labelled images."""

    schema: SchemaNumber
    model: Annotated[str, "Folder of the version."]
    version: Annotated[
        int | None, "Number of the version; null if its folder is not named by a number."
    ]
    source: Annotated[str, "The source of the images."]
    classes: Annotated[list[str], "Class names, in the order of the probabilities."]
    images: Annotated[
        int, "Number of images of the source, including those that could not be evaluated."
    ]
    answered_unknown: Annotated[
        int, "Images of a class that the model answers with `unknown` (model.unknown_rate)."
    ]
    confusion: Annotated[list[Confusion], "Cells of the confusion matrix that are not 0."]
    slices: Annotated[list[SliceGroup], "Accuracy by kind of image."]
    mistakes: Annotated[list[Mistake], "The most confident mistakes."]
    unknown_labels: Annotated[
        dict[str, int],
        "Number of images whose label is not a class of the model, by label; they are not "
        "evaluated.",
    ]
    seen: Annotated[
        SeenCounts | None,
        "Images that were in the data of the run that made the model, or near-duplicates of them; "
        "null if the images of that run are gone.",
    ]
    threshold: Annotated[
        float | None, "Accuracy that the model has to reach; null if it has to reach none."
    ]
    passed: Annotated[
        bool, "Whether the accuracy reaches the threshold, and its interval can carry that."
    ]
    verdict: Annotated[str, "The result as a sentence."]
    findings: Annotated[list[Finding], "What the metrics do not show."]


@dataclass
class NotEvaluated:
    """The images of an evaluation that could not be judged.

    Attributes:
        undecodable: Files that cannot be read or decoded.
        unknown_labels: Number of images by label, of labels that are none of the model's classes.
    """

    undecodable: list[Example] = field(default_factory=list)
    unknown_labels: collections.Counter[str] = field(default_factory=collections.Counter)


def summarise(
    model: Model,
    source: str,
    answers: AnswerTable,
    excluded: NotEvaluated,
    splits: Mapping[str, str] | None,
    threshold: float,
) -> EvaluationSummary:
    """Compute the result of an evaluation.

    `source` is the name of the source, `excluded` the images that could not be judged, `splits` the
    split in the run of each image that the run of the model had, by content hash (None if that is
    not known), and `threshold` is 0 if the model has to reach none.

    Raises:
        ConfigError: No image could be judged.
    """
    not_evaluated = [*_not_evaluated(excluded)]
    if not len(answers):
        why = ". ".join(finding["sentence"] for finding in not_evaluated)
        raise ConfigError(
            f"{source}: no image could be evaluated. {why}. Expected: images that the model "
            "decodes (JPEG, PNG, BMP, GIF, WebP), with labels that it knows."
        )
    measured = metrics(answers)
    class_names = answers.vocabulary
    summary: EvaluationSummary = {
        "schema": SCHEMA,
        "model": str(model.folder),
        "version": model.version,
        "source": source,
        "classes": list(class_names),
        "images": len(answers) + len(excluded.undecodable) + excluded.unknown_labels.total(),
        **measured,
        "answered_unknown": int((answers.confidence < model.unknown_below).sum()),
        "confusion": [
            {"label": class_names[label], "predicted": class_names[predicted], "count": count}
            for label, predicted, count in answers.confusion()
        ],
        "slices": slices(answers),
        "mistakes": mistakes(answers),
        "unknown_labels": dict(sorted(excluded.unknown_labels.items())),
        "seen": None if splits is None else _count_seen(answers, splits),
        "threshold": threshold or None,  # every accuracy reaches 0
        "passed": (measured["accuracy"] or 0.0) >= threshold,
        "verdict": "",
        "findings": [],
    }
    summary["verdict"] = _verdict(summary)
    doubt = interval_ruling(answers, threshold, "in this source")["reason"] if threshold else ""
    if doubt:
        summary["passed"] = False
        summary["verdict"] += f", but {doubt}"
    summary["findings"] += _findings(summary, model, not_evaluated)
    return summary


def _count_seen(answers: AnswerTable, splits: Mapping[str, str]) -> SeenCounts:
    """Count the images that the run had, by its split."""
    seen: list[SeenImage] = [
        {"path": path, "split": splits[image]}
        for path, image in zip(answers.paths, np.char.decode(answers.hashes), strict=True)
        if image in splits
    ]
    by_split = collections.Counter(image["split"] for image in seen)
    return {
        "count": len(seen),
        "by_split": dict(sorted(by_split.items())),
        "first": seen[:_NAMED],
    }


def _correct(figures: AccuracyFigures) -> str:
    return correct_text(figures["correct"], figures["count"])


def _verdict(summary: EvaluationSummary) -> str:
    accuracy = summary["correct"] / summary["count"]
    threshold = summary["threshold"]
    interval = interval_text(summary["ci95"])
    missed = threshold is not None and not summary["passed"]
    number = text_below(accuracy, threshold) if threshold and missed else f"{accuracy:.3f}"
    sentence = f"accuracy {number} ({_correct(summary)}, {interval})"
    if threshold is None:
        return sentence
    return f"{sentence} {'is below' if missed else 'reaches'} the threshold {threshold:g}"


def _not_evaluated(excluded: NotEvaluated) -> Iterator[Finding]:
    """Yield how many images could not be judged, and why."""
    if excluded.undecodable:
        first = excluded.undecodable[:_EXPLAINED]
        reasons = "; ".join(f"{file['path']}: {file['detail'].rstrip('.')}" for file in first)
        number = len(excluded.undecodable)
        sentence = f"{plural(number, 'file is', 'files are')} not evaluated ({reasons})"
        about = make_finding("undecodable", sentence, count=number)
        yield in_files("noted", about, excluded.undecodable[:_NAMED])
    if excluded.unknown_labels:
        labels = sorted(label or "no label" for label in excluded.unknown_labels)
        named = join_names(labels, _NAMED)
        number = excluded.unknown_labels.total()
        images = plural(number, "image is", "images are")
        whose = "its" if number == 1 else "their"
        why = f"the model has no class of {whose} label ({named})"
        sentence = f"{images} not evaluated, because {why}"
        yield make_finding("unknown_labels", sentence, count=number)


def _findings(
    summary: EvaluationSummary, model: Model, not_evaluated: list[Finding]
) -> Iterator[Finding]:
    """Yield what the metrics do not show."""
    if model.notice:
        yield make_finding("not_published", model.notice.rstrip("."))
    yield from not_evaluated
    if summary["answered_unknown"]:
        images = plural(summary["answered_unknown"], "image is", "images are")
        yield make_finding(
            "unknown",
            f"{images} answered unknown (model.unknown_rate). As in a run, the most probable class "
            "is judged",
        )
    yield from _about_seen(summary)
    yield from _about_classes(summary["per_class"])


def _about_classes(per_class: Mapping[str, ClassMetrics]) -> Iterator[Finding]:
    """Yield what classes without images mean for the figures."""
    missing = [name for name, row in per_class.items() if not row["count"]]
    if len(missing) == len(per_class) - 1:
        [only] = set(per_class) - set(missing)
        yield make_finding(
            "one_class",
            f"All evaluated images are of the class {only}, so the accuracy is its recall, and "
            "precision and F1 say nothing",
        )
    elif missing:
        named = join_names(missing, _NAMED)
        which = "the class" if len(missing) == 1 else f"{len(missing):,} classes:"
        yield make_finding("missing_classes", f"There are no images of {which} {named}")


def _about_seen(summary: EvaluationSummary) -> Iterator[Finding]:
    """Yield what images of the run mean for the accuracy; those of its test split do not."""
    seen = summary["seen"]
    if seen is None:
        yield make_finding(
            "seen",
            "It is not known which images the model was trained on, because the run that made it "
            "or its artifacts are gone. If some of these images are among them, the accuracy is "
            "too high",
        )
        return
    counts = {split: count for split, count in seen["by_split"].items() if split != names.TEST}
    used = sum(counts.values())
    if used:
        rest = "No image is new to the model"
        without = summary["unseen"]
        if without is not None and without["accuracy"] is not None:
            rest = f"Without them the accuracy is {without['accuracy']:.3f} ({_correct(without)})"
        listed = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
        yield make_finding(
            "seen",
            f"{used:,} of these images, or near-duplicates of them, "
            f"{'was' if used == 1 else 'were'} in the data of the run that made the model "
            f"({listed}), so the accuracy is too high. {rest}",
        )
