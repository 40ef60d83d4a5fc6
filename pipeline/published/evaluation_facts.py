"""What an evaluation found: the metrics, the verdict and the warnings that ``--json`` writes."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imgpipe.components.common import shares
from imgpipe.components.report.text import plural
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.published.model import Model

if TYPE_CHECKING:
    from imgpipe.components.common.prediction import StoredPrediction

_NAMED = 20  # images and labels of each kind that are named
_EXPLAINED = 3  # files that a sentence names with their reasons


@dataclass
class JudgedAnswers:
    """The images of an evaluation, of which only hashes, figures and answers are kept."""

    #: The images that were judged, with their predictions.
    rows: list[StoredPrediction] = field(default_factory=list)
    #: Their perceptual hashes by content hash; b"" for an image that cannot be compared.
    hashes: dict[str, bytes] = field(default_factory=dict)
    #: Paths and reasons of files that cannot be read or decoded.
    undecodable: list[tuple[str, str]] = field(default_factory=list)
    #: Number of images by label, of labels that are none of the model's classes.
    unknown: collections.Counter[str] = field(default_factory=collections.Counter)
    #: Split of each image that the run of the version had, by content hash; None if unknown.
    seen: Mapping[str, str] | None = None


def facts(model: Model, source: str, judged: JudgedAnswers, threshold: float) -> dict[str, Any]:
    """Compute what ``--json`` writes.

    Args:
        model: The version that was evaluated.
        source: Name of the source of the images.
        judged: The predictions.
        threshold: Accuracy that the model has to reach; 0 if it has to reach none.

    Raises:
        ConfigError: No image could be judged.
    """
    from imgpipe.components.report import metrics
    from imgpipe.components.report.slices import Slices

    excluded = _excluded(judged)
    if not judged.rows:
        raise ConfigError(
            f"{source}: no image could be evaluated. {excluded} Expected: images that the "
            "model decodes (JPEG, PNG, BMP, GIF, WebP), with labels that it knows."
        )
    seen, kinds = judged.seen, Slices()
    table = metrics.Table(model.vocabulary, kinds.counted(judged.rows))
    summary = table.summary()
    name = dict(enumerate(model.vocabulary))
    # Images that the model was made with raise the accuracy, so it is computed without them too.
    used = {key for key, split in (seen or {}).items() if split != names.TEST}
    new = [row for row in judged.rows if row.image_hash not in used]
    overall = _accuracy(judged.rows)
    found = {
        "schema": 1,
        "model": str(model.folder),
        "version": model.version,
        "source": source,
        "classes": list(model.vocabulary),
        "images": len(judged.rows) + len(judged.undecodable) + judged.unknown.total(),
        **overall,
        **{key: summary[key] for key in ("loss", "ece", "ece_by_chance", "per_class")},
        "confusion": [
            {"label": name[label], "predicted": name[predicted], "count": count}
            for label, predicted, count in table.confusion()
        ],
        "slices": kinds.summary(),
        "mistakes": table.mistakes(),
        "undecodable": {
            "count": len(judged.undecodable),
            "first": [{"path": path, "why": why} for path, why in judged.undecodable[:_NAMED]],
        },
        "unknown_labels": dict(sorted(judged.unknown.items())),
        "seen": None if seen is None else _count_seen(judged.rows, seen),
        "unseen": _accuracy(new) if used and new else None,
        "threshold": threshold or None,  # every accuracy reaches 0
        "passed": overall["accuracy"] >= threshold,
    }
    return {**found, "verdict": _verdict(found), "warnings": _warnings(found, excluded)}


def _accuracy(rows: Sequence[StoredPrediction]) -> dict[str, Any]:
    correct = sum(row.label_index == row.predicted for row in rows)
    accuracy, interval = correct / len(rows), list(shares.wilson(correct, len(rows)))
    return {"count": len(rows), "correct": correct, "accuracy": accuracy, "ci95": interval}


def _count_seen(rows: Sequence[StoredPrediction], seen: Mapping[str, str]) -> dict[str, Any]:
    """Count the images that the run had, by its split."""
    there = [(row.path, seen[row.image_hash]) for row in rows if row.image_hash in seen]
    return {
        "count": len(there),
        "by_split": dict(sorted(collections.Counter(split for _, split in there).items())),
        "first": [{"path": path, "split": split} for path, split in there[:_NAMED]],
    }


def _verdict(found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    accuracy, threshold = f"{found['accuracy']:.3f}", found["threshold"]
    if not found["passed"]:
        accuracy = shares.below(found["accuracy"], threshold)
    reached = f"{'reaches' if found['passed'] else 'is below'} the threshold"
    return (
        f"accuracy {accuracy} ({found['correct']:,} of {found['count']:,} correct, "
        f"95 % interval {low:.2f}–{high:.2f})"
    ) + (f" {reached} {threshold:g}" if threshold else "")


def _excluded(judged: JudgedAnswers) -> str:
    """Say how many images could not be judged, and why; "" if there are none."""
    sentences = []
    if judged.undecodable:
        reasons = "; ".join(f"{path}: {why}" for path, why in judged.undecodable[:_EXPLAINED])
        count = plural(len(judged.undecodable), "file")
        sentences.append(f"{count} cannot be read or decoded ({reasons}).")
    if judged.unknown:
        labels = ", ".join(sorted(label or "no label" for label in judged.unknown)[:_NAMED])
        count = plural(judged.unknown.total(), "image")
        sentences.append(f"The label of {count} is no class of the model ({labels}).")
    return " ".join(sentences)


def _warnings(found: Mapping[str, Any], excluded: str) -> list[str]:
    """Return sentences about what the metrics do not show."""
    sentences = [f"Not evaluated: {excluded}"] if excluded else []
    if found["seen"] is None:
        sentences.append(
            "It is not known which images the model was trained on, because the run that made it "
            "or its artifacts are gone. If some of these images are among them, the accuracy is "
            "too high."
        )
    else:
        sentences += _about_seen(found["seen"], found["unseen"])
    missing = [name for name, row in found["per_class"].items() if not row["count"]]
    if len(missing) == len(found["per_class"]) - 1:
        [only] = set(found["per_class"]) - set(missing)
        sentences.append(
            f"All evaluated images are of the class {only}, so the accuracy is its recall, and "
            "precision and F1 say nothing."
        )
    elif missing:
        shown = ", ".join(missing[:_NAMED])
        sentences.append(
            f"There are no images of {plural(len(missing), 'class', 'classes')}: {shown}."
        )
    return sentences


def _about_seen(seen: Mapping[str, Any], without: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield sentences about images of the run: those that it used, and those of its test split."""
    counts = {split: n for split, n in seen["by_split"].items() if split != names.TEST}
    if used := sum(counts.values()):
        rest = "No image is new to the model."
        if without:
            rest = (
                f"Without them the accuracy is {without['accuracy']:.3f} ({without['correct']:,} "
                f"of {without['count']:,} correct)."
            )
        listed = ", ".join(f"{n:,} in {split}" for split, n in counts.items())
        yield (
            f"{used:,} of these images, or near-duplicates of them, were in the data of the run "
            f"that made the model ({listed}), so the accuracy is too high. {rest}"
        )
    if unused := seen["count"] - used:
        yield (
            f"The run that made the model had {unused:,} of these images in its test split. It "
            "neither trained nor decided with that split, so they do not raise the accuracy."
        )
