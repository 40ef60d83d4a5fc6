"""Evaluates a published model on labelled images, with the metrics of the report.

The answers are those of the served signature, as in a run. An image that it cannot decode, or whose
label is none of the model's classes, cannot be judged and is counted beside the metrics.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.example_gen.sources import Scan, Source
from imgpipe.components.report.text import plural
from imgpipe.models.errors import ConfigError, ImgpipeError
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.output import past_runs

if TYPE_CHECKING:
    from imgpipe.components.image_record import ImageRecord
    from imgpipe.components.report.metrics import Row
    from imgpipe.pipeline.published.seen_images import Seen

SCHEMA = 1  # of the file that --json writes
_BATCH = 32  # images in one call of the signature
_VOCABULARY = "assets/vocabulary.txt"
_NAMED = 20  # images of each kind that the JSON names


@dataclass(frozen=True)
class Model:
    """The version that is evaluated.

    Attributes:
      folder: Folder of the version.
      vocabulary: Class names, in the order of the probabilities.
    """

    folder: Path
    vocabulary: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path) -> Model:
        """Read the class names of a version.

        Raises:
          ConfigError: The model names no classes, so that labels cannot be compared with them.
        """
        try:
            names = (folder / _VOCABULARY).read_text("utf-8").splitlines()
        except OSError:
            raise ConfigError(
                f"{folder} has no {_VOCABULARY}. Expected: a model that imgpipe has exported, "
                "which names its classes there."
            ) from None
        return cls(folder, tuple(names))

    @property
    def training_images(self) -> str | None:
        """Folder of the images of the run that made the version; None if it cannot be found."""
        try:
            run = past_runs.find(self.folder)
        except ImgpipeError:
            return None
        uri = (run.artifacts or {}).get("ImageFilter", {}).get("examples")
        return uri if uri and Path(uri).is_dir() else None


@dataclass
class Judged:
    """The images of an evaluation, of which only hashes, figures and answers are kept.

    Attributes:
      rows: The images that were judged, with their predictions.
      hashes: Perceptual hashes by content hash, of the images that were judged.
      undecodable: Paths and reasons of images that the served signature does not decode.
      unknown: Number of images by label, of labels that are none of the model's classes.
    """

    rows: list[Row] = field(default_factory=list)
    hashes: dict[str, bytes] = field(default_factory=dict)
    undecodable: list[tuple[str, str]] = field(default_factory=list)
    unknown: collections.Counter[str] = field(default_factory=collections.Counter)


def require_known_labels(model: Model, scan: Scan) -> None:
    """Refuse data without a single label of the model, before anything heavy is imported.

    Args:
      model: The version that is evaluated.
      scan: The listing of the data.

    Raises:
      ConfigError: None of the labels is a class of the model.
    """
    labels = {item.label for item in scan.items if item.label}
    if not labels & set(model.vocabulary):
        received = ", ".join(sorted(labels)[:_NAMED]) or "images without labels"
        raise ConfigError(
            f"{scan.source}: no label is a class of the model. Expected: some of "
            f"{', '.join(model.vocabulary[:_NAMED])}. Received: {received}. Name the folders, or "
            "the labels of the table, as the classes of the model."
        )


def judge(model: Model, config: Config, source: Source, scan: Scan) -> Judged:
    """Inspect and classify all images of a source.

    Args:
      model: The version that is evaluated.
      config: The configuration, which holds the limit of pixels.
      source: The source.
      scan: The listing of the source.

    Returns:
      The predictions, and what could not be judged.
    """
    from imgpipe.components.example_gen.inspection import inspect
    from imgpipe.models import feature_names as names
    from imgpipe.models import progress
    from imgpipe.models.export.served_model import Served
    from imgpipe.pipeline.inputs import judge_settings

    found = Judged()
    served = Served(str(model.folder), outputs=(names.PROBABILITIES,))
    limit = judge_settings(config).pixel_limit
    progress.total(len(scan.items), "images")
    try:
        records = inspect(source, scan.items, limit, vocabulary=model.vocabulary)
        for batch in _batches(records, found):
            answers = served.run(image_bytes=[record.image_bytes for record in batch])
            for record, row in zip(batch, answers[names.PROBABILITIES], strict=True):
                found.rows.append(_row(record, row))
                found.hashes[record.image_hash] = record.perceptual_hash or b""
    finally:
        served.close()
    return found


def _batches(records: Iterator[ImageRecord], found: Judged) -> Iterator[list[ImageRecord]]:
    """Yield the images that can be judged in batches, and note the others."""
    from imgpipe.models import progress

    batch: list[ImageRecord] = []
    for record in records:
        progress.advance(1, "images")
        if why := record.problem or record.read_error or record.decode_error:
            found.undecodable.append((record.path, why.splitlines()[0]))
        elif record.label_index < 0:
            found.unknown[record.label] += 1
        else:
            batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _row(record: ImageRecord, probabilities: Any) -> Row:
    from imgpipe.components.predictor.prediction import Prediction
    from imgpipe.components.report.metrics import Row
    from imgpipe.components.report.slices import DESCRIBED
    from imgpipe.models import feature_names as names

    best = int(probabilities.argmax())
    label = record.label_index
    described = record.features()
    kinds = {name: described.get(name) for name in DESCRIBED}
    kinds[names.FORMAT] = record.format.encode()
    prediction = Prediction(best, float(probabilities[best]), float(probabilities[label]))
    return Row(record.path, record.image_hash, label, prediction, kinds)


def facts(
    model: Model, source: str, judged: Judged, seen: Mapping[str, Seen] | None, threshold: float
) -> dict[str, Any]:
    """Compute what ``--json`` writes; `imgpipe.pipeline.json_formats` declares it.

    Args:
      model: The version that was evaluated.
      source: Name of the source of the images.
      judged: The predictions.
      seen: The images that the run of the version had, by content hash; None if that is not known.
      threshold: Accuracy that the model has to reach; 0 if it has to reach none.

    Raises:
      ConfigError: No image could be judged.
    """
    from imgpipe.components.report import metrics
    from imgpipe.components.report.slices import Slices

    if not judged.rows:
        raise ConfigError(
            f"{source}: no image could be judged. {_excluded(judged)} Expected: images that the "
            "model decodes (JPEG, PNG, GIF, BMP), with labels that it knows."
        )
    kinds = Slices()
    table = metrics.Table(model.vocabulary, kinds.counted(judged.rows))
    summary = table.summary()
    name = dict(enumerate(model.vocabulary))
    # Images that the model was trained on raise the accuracy, so it is computed without them too.
    new = [row for row in judged.rows if row.image_hash not in (seen or {})]
    found = {
        "schema": SCHEMA,
        "model": str(model.folder),
        "version": int(model.folder.name) if model.folder.name.isdecimal() else None,
        "source": source,
        "classes": list(model.vocabulary),
        "images": len(judged.rows) + len(judged.undecodable) + judged.unknown.total(),
        **_accuracy(judged.rows),
        **{key: summary[key] for key in ("loss", "ece", "per_class")},
        "confusion": [
            {"label": name[label], "predicted": name[predicted], "count": count}
            for label, predicted, count in table.confusion()
        ],
        "reliability": table.reliability(),
        "slices": kinds.summary(),
        "mistakes": table.mistakes(),
        "undecodable": _named(judged.undecodable),
        "unknown_labels": dict(sorted(judged.unknown.items())),
        "seen": None if seen is None else _count_seen(judged.rows, seen),
        "unseen": _accuracy(new) if seen and new else None,
        "threshold": threshold or None,  # every accuracy reaches 0
    }
    found["passed"] = found["accuracy"] >= threshold
    return {**found, "verdict": _verdict(found), "warnings": _warnings(found, judged)}


def shown_images(
    model: Model, source: Source, scan: Scan, found: Mapping[str, Any]
) -> dict[str, bytes]:
    """Read the images that the page of an evaluation shows, and explain the worst mistakes.

    Args:
      model: The version that was evaluated.
      source: The source of the images.
      scan: Its listing.
      found: What `facts` returned.

    Returns:
      Encoded images of the mistakes, by image hash, and their Grad-CAM, by
      `imgpipe.components.report.sections.mistakes.cam_key`.
    """
    from imgpipe.components.report import explanations

    hashes = {row["path"]: row["image_hash"] for row in found["mistakes"]}
    images = {hashes[one.path]: source.read(one) for one in scan.items if one.path in hashes}
    wanted = list(hashes.values())[: explanations.EXPLAINED]
    return images | explanations.encoded_cams(str(model.folder), images, wanted)


def _accuracy(rows: Sequence[Row]) -> dict[str, Any]:
    from imgpipe.components.report.metrics import wilson

    correct = sum(row.label_index == row.prediction.predicted for row in rows)
    accuracy = correct / len(rows)
    interval = list(wilson(correct, len(rows)))
    return {"count": len(rows), "correct": correct, "accuracy": accuracy, "ci95": interval}


def _named(undecodable: Sequence[tuple[str, str]]) -> dict[str, Any]:
    first = [{"path": path, "why": why} for path, why in undecodable[:_NAMED]]
    return {"count": len(undecodable), "first": first}


def _count_seen(rows: Sequence[Row], seen: Mapping[str, Seen]) -> dict[str, Any]:
    """Count the images that the run had, by kind and by its split."""
    there = [(row, seen[row.image_hash]) for row in rows if row.image_hash in seen]
    counts = collections.Counter((one.kind, one.split) for _, one in there)
    by_kind: dict[str, dict[str, int]] = {}
    for (kind, split), count in sorted(counts.items()):
        by_kind.setdefault(kind, {})[split] = count
    first = [{"path": row.path, "kind": one.kind, "split": one.split} for row, one in there]
    return {"count": len(there), "by_kind": by_kind, "first": first[:_NAMED]}


def _verdict(found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    text = (
        f"accuracy {found['accuracy']:.3f} ({found['correct']:,} of {found['count']:,} correct, "
        f"95 % interval {low:.2f}–{high:.2f})"
    )
    if found["threshold"] is None:
        return text
    reached = "reaches" if found["passed"] else "is below"
    return f"{text} {reached} the threshold {found['threshold']:g}"


def _excluded(judged: Judged) -> str:
    """Say how many images could not be judged, and why; "" if there are none."""
    sentences = []
    if judged.undecodable:
        sentences.append(
            f"{plural(len(judged.undecodable), 'image')} cannot be decoded by the model."
        )
    if judged.unknown:
        labels = ", ".join(sorted(label or "no label" for label in judged.unknown)[:_NAMED])
        count = plural(judged.unknown.total(), "image")
        has = "has a label that is" if judged.unknown.total() == 1 else "have labels that are"
        sentences.append(f"{count} {has} no class of the model ({labels}).")
    return " ".join(sentences)


def _warnings(found: Mapping[str, Any], judged: Judged) -> list[str]:
    """Return sentences about what the metrics do not show."""
    sentences = [f"Not judged: {text}"] if (text := _excluded(judged)) else []
    seen = found["seen"]
    if seen is None:
        sentences.append(
            "It is not known which images the model was trained on, because the run that made it "
            "or its artifacts are gone. If some of these images are among them, the accuracy is "
            "too high."
        )
    elif seen["count"]:
        counts = ", ".join(
            f"{count:,} {'identical to' if kind == 'identical' else 'nearly identical to'} "
            f"{split} images"
            for kind, splits in seen["by_kind"].items()
            for split, count in splits.items()
        )
        without = found["unseen"]
        rest = (
            f"Without them the accuracy is {without['accuracy']:.3f} ({without['correct']:,} of "
            f"{without['count']:,} correct)."
            if without
            else "No image is new to the model."
        )
        sentences.append(
            f"{seen['count']:,} of these images were in the data of the run that made the model "
            f"({counts}), so the accuracy is too high. {rest}"
        )
    missing = [name for name, row in found["per_class"].items() if not row["count"]]
    if len(missing) == len(found["per_class"]) - 1:
        [only] = set(found["per_class"]) - set(missing)
        sentences.append(
            f"All images that were judged are of the class {only}, so the accuracy is its recall. "
            f"Which images of other classes the model takes for {only} is not known, so its "
            "precision and F1 say nothing."
        )
    elif missing:
        shown = ", ".join(missing[:_NAMED])
        sentences.append(f"There are no images of {plural(len(missing), 'class')}: {shown}.")
    return sentences
