"""The result of an evaluation: its metrics, its verdict and what the metrics do not show."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from imgpipe.components.common.answer_table import AnswerTable, ClassMetrics
from imgpipe.components.common.formatting import (
    correct_text,
    interval_text,
    join_names,
    plural,
    text_below,
)
from imgpipe.components.image_evaluator.rules import commonest_ruling, interval_ruling
from imgpipe.components.run_record.metrics import SplitMetrics, judged_answers, metrics, slices
from imgpipe.components.run_record.result import EvaluatedModel, Result, SeenCounts, SeenImage, new
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.finding import Example, Finding, in_files, make_finding
from imgpipe.models.head.certainty import AccuracyFigures
from imgpipe.pipeline.output.lookup import Model

_NAMED = 20  # images and labels of each kind that are named
_EXPLAINED = 3  # files that a sentence names with their reasons


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
) -> Result:
    """Compute the result of an evaluation.

    `source` is the name of the source, `excluded` the images that could not be judged, `splits` the
    split in the run of each image that the run of the model had, by content hash (None if that is
    not known), and `threshold` is 0 if the model has to reach none. A ConfigError
    says that no image could be judged.
    """
    not_evaluated = [*_not_evaluated(excluded)]
    if not len(answers):
        why = ". ".join(finding["sentence"] for finding in not_evaluated)
        raise ConfigError(
            f"{source}: no image could be evaluated. {why}. Expected: images that the model "
            "decodes (JPEG, PNG, BMP, GIF, WebP), with labels that it knows."
        )
    evaluated: EvaluatedModel = {
        "model": str(model.folder),
        "version": model.version,
        "images": len(answers) + len(excluded.undecodable) + excluded.unknown_labels.total(),
        "unknown_labels": dict(sorted(excluded.unknown_labels.items())),
        "seen": None if splits is None else _count_seen(answers, splits),
    }
    measured = metrics(answers)
    unseen = answers.unseen()
    reached = len(unseen) > 0 and (measured["accuracy"] or 0.0) >= threshold
    doubts = _doubts(unseen, threshold) if threshold and reached else []
    passed = not threshold or (reached and not doubts)
    return new(
        status="evaluated" if passed else "below_threshold",
        verdict=", but ".join([_verdict(measured, threshold), *doubts]),
        findings=[*_findings(evaluated, measured, model, not_evaluated)],
        name="imgpipe evaluate",
        source=source,
        classes=list(answers.vocabulary),
        evaluation=evaluated,
        metrics={"evaluation": measured},
        # Every accuracy reaches 0.
        answers=judged_answers("evaluation", threshold or None, unseen) if len(unseen) else None,
        slices=slices(unseen),
    )


def _doubts(answers: AnswerTable, threshold: float) -> list[str]:
    """Return why an accuracy that reaches the threshold does not pass, as in a run."""
    rulings = [interval_ruling(answers, threshold, "in this source")]
    if len(np.unique(answers.labels)) > 1:  # the accuracy on a single class is its recall
        rulings.append(commonest_ruling(answers, "in this source"))
    return [ruling["reason"] for ruling in rulings if ruling["reason"]]


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


def _verdict(measured: SplitMetrics, threshold: float) -> str:
    if not measured["count"]:
        return (
            "cannot be judged: no image is new to the model; evaluate it on images of which the "
            "run that made it had none"
        )
    accuracy = measured["correct"] / measured["count"]
    is_below = accuracy < threshold
    number = text_below(accuracy, threshold) if is_below else f"{accuracy:.3f}"
    sentence = f"accuracy {number} ({_correct(measured)}, {interval_text(measured['ci95'])})"
    if not threshold:
        return sentence
    return f"{sentence} {'is below' if is_below else 'reaches'} the threshold {threshold:g}"


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
    evaluated: EvaluatedModel, measured: SplitMetrics, model: Model, not_evaluated: list[Finding]
) -> Iterator[Finding]:
    """Yield what the metrics do not show."""
    if model.notice:
        yield make_finding("not_published", model.notice.rstrip("."))
    yield from not_evaluated
    yield from _about_seen(evaluated["seen"], measured["seen"])
    yield from _about_classes(measured["per_class"])


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


def _about_seen(seen: SeenCounts | None, figures: AccuracyFigures | None) -> Iterator[Finding]:
    """Yield which images are not counted, since the run had them; those of its test split are."""
    if seen is None:
        yield make_finding(
            "seen",
            "It is not known which images the model was trained on, because the run that made it "
            "or its artifacts are gone. If some of these images are among them, the accuracy is "
            "too high",
        )
        return
    if figures is not None:
        counts = {split: count for split, count in seen["by_split"].items() if split != names.TEST}
        listed = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
        images = plural(figures["count"], "image is", "images are")
        yield make_finding(
            "seen",
            f"{images} not counted: the run that made the model had them, near-duplicates of them "
            f"or others of their families ({listed}). On them the accuracy is "
            f"{figures['accuracy']:.3f} ({_correct(figures)})",
        )
