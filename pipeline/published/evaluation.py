"""Evaluates a model on labelled images, with the metrics of the report.

The answers are those of the served signature, as in a run. An image that cannot be read, that the
signature cannot decode, or whose label is none of the model's classes, cannot be judged and is
counted beside the metrics. A model with `model.unknown_rate` also answers the label "unknown".
"""

from __future__ import annotations

import contextlib
import itertools
import numbers
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.example_gen.sources import Scan, Source
from imgpipe.components.example_gen.sources.validation import check_class_names
from imgpipe.models.errors import ConfigError
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.images.source import opened
from imgpipe.pipeline.published import named_model
from imgpipe.pipeline.published.evaluation_summary import (
    EvaluationSummary,
    JudgedAnswers,
    summarise,
)
from imgpipe.pipeline.published.model import Model
from imgpipe.pipeline.published.seen_images import seen_images

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imgpipe.components.common.image_record import ImageRecord
    from imgpipe.components.common.prediction import StoredPrediction

_BATCH = 32  # images in one call of the signature
_NAMED = 20  # labels that an error names


@dataclass(frozen=True)
class EvaluationRequest:
    """What is evaluated.

    Attributes:
        model: The model.
        config: The configuration, which says how the images are read.
        source: The source of the images.
        scan: The listing of the source.
        threshold: Accuracy that the model has to reach; 0 if it has to reach none.
    """

    model: Model
    config: Config
    source: Source
    scan: Scan
    threshold: float


def prepare(
    path: Path,
    version: int | None,
    config: Config,
    threshold: float,
    run: str | None = None,
) -> EvaluationRequest:
    """Find the model and list the images, before anything heavy is imported.

    Args:
        path: Output folder of a run, folder of versions, one version, or folder of a run.
        version: Number of the version, None for the newest intact one.
        config: The configuration, which names the source.
        threshold: Accuracy that the model has to reach; 0 if it has to reach none.
        run: Name of a run of the output folder, or `newest`; None for a published version.

    Raises:
        ConfigError: The threshold or the source is wrong, no label is a class of the model, or one
            only looks like a class.
        ResourceError: There is no model.
    """
    if not isinstance(threshold, numbers.Real) or not 0 <= threshold <= 1:
        raise ConfigError(f"threshold: expected a share from 0 to 1. Received: {threshold!r}.")
    model = named_model.find(path, run).model(version)
    # A recall needs images of one class only.
    source = opened(config.data, config.places.judge, least_classes=1)
    scan = source.listing()
    labels = {item.label for item in scan.items if item.label}
    answered = (*model.vocabulary, *([names.UNKNOWN] if model.unknown_below else []))
    check_class_names(scan.source, {*labels, *answered})
    if not labels & set(answered):
        received = ", ".join(sorted(labels)[:_NAMED]) or "images without labels"
        raise ConfigError(
            f"{scan.source}: no label is a class of the model. Expected: some of "
            f"{', '.join(answered[:_NAMED])}. Received: {received}. Name the folders, or "
            "the labels of the table, as the classes of the model."
        )
    return EvaluationRequest(model, config, source, scan, threshold)


def evaluate(
    request: EvaluationRequest, with_images: bool, to_stderr: bool
) -> tuple[EvaluationSummary, dict[str, bytes]]:
    """Evaluate a model while progress is displayed.

    Args:
        request: The model and the images.
        with_images: Whether the images of the page are read and explained.
        to_stderr: Whether progress is printed to standard error instead of standard output.

    Returns:
        The result, and the images of the page.

    Raises:
        ConfigError: No image could be judged.
    """
    from imgpipe.models.machine.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles

    images: dict[str, bytes] = {}
    with consoles.counted(to_stderr) as display:
        with display.step("loading TensorFlow"), quick_imports():
            import tensorflow  # noqa: F401  # so that the next step's rate is that of the images
        with display.step("classifying images"):
            judged = _judge(request)
        with display.step("comparing with training"):
            judged.seen = seen_images(request.model, judged.hashes)
        summary = summarise(request.model, request.scan.source, judged, request.threshold)
        if with_images:
            with display.step("explaining mistakes"):
                images = shown_images(request, summary)
    return summary, images


def _judge(request: EvaluationRequest) -> JudgedAnswers:
    """Inspect and classify all images of a source."""
    from imgpipe.components.example_gen.inspection import inspect
    from imgpipe.components.image_filter.judge.decision import readable
    from imgpipe.serving.served import Served

    model = request.model
    items = request.scan.items
    labelled_unknown = any(item.label == names.UNKNOWN for item in items)
    judged = JudgedAnswers(by_served_label=bool(model.unknown_below) and labelled_unknown)
    vocabulary = judged.vocabulary(model)
    limit = request.config.judge.pixel_limit
    with contextlib.closing(Served(str(model.folder), outputs=(names.PROBABILITIES,))) as served:
        progress.total(len(items), "images")
        inspected = inspect(request.source, items, limit, vocabulary=vocabulary)
        usable = _usable((readable(record, limit) for record in inspected), judged)
        while batch := list(itertools.islice(usable, _BATCH)):
            answers = served.run(image_bytes=[record.image_bytes for record in batch])
            for record, row in zip(batch, answers[names.PROBABILITIES], strict=True):
                judged.rows.append(_row(record, row))
                if row.max() < model.unknown_below:
                    judged.answered_unknown.add(record.path)
                judged.hashes[record.image_hash] = record.content.perceptual_hash or b""
    return judged


def _usable(inspected: Iterable[ImageRecord], judged: JudgedAnswers) -> Iterator[ImageRecord]:
    """Yield the images that can be judged, and note the others."""
    for record in inspected:
        progress.advance(1, "images")
        error = record.problem or record.read_error or record.content.decode_error
        if error:
            judged.undecodable.append({"path": record.path, "why": error.splitlines()[0]})
        elif record.label_index < 0:
            judged.unknown[record.label] += 1
        else:
            yield record


def _row(record: ImageRecord, probabilities: npt.NDArray[np.float32]) -> StoredPrediction:
    from imgpipe.components.common.prediction import DESCRIBED, StoredPrediction

    best = int(probabilities.argmax())
    features = record.features()
    described = {name: features.get(name) for name in DESCRIBED}
    described[names.FORMAT] = record.content.format.encode()
    return StoredPrediction(
        path=record.path,
        image_hash=record.image_hash,
        label_index=record.label_index,
        predicted=best,
        confidence=float(probabilities[best]),
        # The label "unknown" comes after the classes, and has no probability.
        of_label=float(probabilities[record.label_index : record.label_index + 1].sum()),
        described=described,
    )


def shown_images(request: EvaluationRequest, summary: EvaluationSummary) -> dict[str, bytes]:
    """Read the images that the page of an evaluation shows, and explain the worst mistakes.

    Returns:
        Encoded images of the mistakes, by image hash, and their Grad-CAM, by
        `imgpipe.components.report.pictures.thumbnails.cam_key`.
    """
    from imgpipe.components.common.image_file.transcoding import for_the_model
    from imgpipe.components.report.pictures import thumbnails

    hashes = {row["path"]: row["image_hash"] for row in summary["mistakes"]}
    images = {}
    for item in request.scan.items:
        if item.path in hashes:
            # The page shows a mistake without its image if the file was removed since.
            with contextlib.suppress(OSError):
                data = request.source.read(item)
                images[hashes[item.path]] = for_the_model(data, request.config.judge.pixel_limit)
    wanted = list(hashes.values())[: thumbnails.EXPLAINED]
    return images | thumbnails.encoded_cams(str(request.model.folder), images, wanted)
