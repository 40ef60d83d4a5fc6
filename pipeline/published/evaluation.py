"""Evaluates a published model on labelled images, with the metrics of the report.

The answers are those of the served signature, as in a run. An image that cannot be read, that the
signature cannot decode, or whose label is none of the model's classes, cannot be judged and is
counted beside the metrics.
"""

from __future__ import annotations

import contextlib
import itertools
import numbers
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.common.storage import records
from imgpipe.components.example_gen.sources import Scan, Source
from imgpipe.components.example_gen.sources.validation import check_class_names
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.output import places
from imgpipe.pipeline.published.evaluation_facts import JudgedAnswers, facts
from imgpipe.pipeline.published.model import Model
from imgpipe.pipeline.source import opened

if TYPE_CHECKING:
    from imgpipe.components.common.image_record import ImageRecord
    from imgpipe.components.common.prediction import StoredPrediction

_BATCH = 32  # images in one call of the signature
_NAMED = 20  # labels that an error names


@dataclass(frozen=True)
class EvaluationRequest:
    """What is evaluated."""

    model: Model
    config: Config
    source: Source
    scan: Scan
    threshold: float  # accuracy that the model has to reach; 0 if it has to reach none


def prepare(path: Path, version: int | None, config: Config, threshold: float) -> EvaluationRequest:
    """Find the model and list the images, before anything heavy is imported.

    Args:
        path: Output folder of a run, folder of versions, or one version.
        version: Number of the version, None for the newest intact one.
        config: The configuration, which names the source.
        threshold: Accuracy that the model has to reach; 0 if it has to reach none.

    Raises:
        ConfigError: The threshold or the source is wrong, no label is a class of the model, or one
            only looks like a class.
        ResourceError: There is no model.
    """
    if not isinstance(threshold, numbers.Real) or not 0 <= threshold <= 1:
        raise ConfigError(f"threshold: expected a share from 0 to 1. Received: {threshold!r}.")
    model = Model.of(places.version(path, version))
    source = opened(config, least_classes=1)  # a recall needs images of one class only
    scan = source.listing()
    labels = {item.label for item in scan.items if item.label}
    check_class_names(scan.source, {*labels, *model.vocabulary})
    if not labels & set(model.vocabulary):
        received = ", ".join(sorted(labels)[:_NAMED]) or "images without labels"
        raise ConfigError(
            f"{scan.source}: no label is a class of the model. Expected: some of "
            f"{', '.join(model.vocabulary[:_NAMED])}. Received: {received}. Name the folders, or "
            "the labels of the table, as the classes of the model."
        )
    return EvaluationRequest(model, config, source, scan, threshold)


def evaluate(
    request: EvaluationRequest, with_images: bool, to_stderr: bool
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Evaluate a model while progress is displayed.

    Args:
        request: The model and the images.
        with_images: Whether the images of the page are read and explained.
        to_stderr: Whether progress is printed to standard error instead of standard output.

    Returns:
        What ``--json`` writes, and the images of the page.

    Raises:
        ConfigError: No image could be judged.
    """
    from imgpipe.models.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles

    images: dict[str, bytes] = {}
    with consoles.counted(to_stderr) as display:
        with display.step("loading TensorFlow"), quick_imports():
            import tensorflow  # noqa: F401  # so that the next step's rate is that of the images
        with display.step("classifying images"):
            judged = _judge(request)
        if uri := request.model.training_images:
            with display.step("comparing with training"):
                judged.seen = _seen(uri, judged.hashes)
        found = facts(request.model, request.scan.source, judged, request.threshold)
        if with_images:
            with display.step("explaining mistakes"):
                images = shown_images(request, found)
    return found, images


def _judge(request: EvaluationRequest) -> JudgedAnswers:
    """Inspect and classify all images of a source."""
    from imgpipe.components.example_gen.inspection import inspect
    from imgpipe.components.image_filter.decision import readable
    from imgpipe.serving.server.served import Served

    found, model, items = JudgedAnswers(), request.model, request.scan.items
    limit = request.config.judge.pixel_limit
    with contextlib.closing(Served(str(model.folder), outputs=(names.PROBABILITIES,))) as served:
        progress.total(len(items), "images")
        inspected = inspect(request.source, items, limit, vocabulary=model.vocabulary)
        judged = _judged((readable(record, limit) for record in inspected), found)
        while batch := list(itertools.islice(judged, _BATCH)):
            answers = served.run(image_bytes=[record.image_bytes for record in batch])
            for record, row in zip(batch, answers[names.PROBABILITIES], strict=True):
                found.rows.append(_row(record, row))
                found.hashes[record.image_hash] = record.perceptual_hash or b""
    return found


def _judged(inspected: Iterable[ImageRecord], found: JudgedAnswers) -> Iterator[ImageRecord]:
    """Yield the images that can be judged, and note the others."""
    for record in inspected:
        progress.advance(1, "images")
        if why := record.problem or record.read_error or record.decode_error:
            found.undecodable.append((record.path, why.splitlines()[0]))
        elif record.label_index < 0:
            found.unknown[record.label] += 1
        else:
            yield record


def _row(record: ImageRecord, probabilities: Any) -> StoredPrediction:
    from imgpipe.components.common.prediction import DESCRIBED, StoredPrediction

    best = int(probabilities.argmax())
    label = record.label_index
    described = record.features()
    kinds = {name: described.get(name) for name in DESCRIBED}
    kinds[names.FORMAT] = record.format.encode()
    chances = float(probabilities[best]), float(probabilities[label])
    return StoredPrediction(record.path, record.image_hash, label, best, *chances, described=kinds)


def _seen(examples_uri: str, images: Mapping[str, bytes]) -> dict[str, str]:
    """Find the split of each image that a run had, or near-duplicates of which it had."""
    from imgpipe.components.image_filter.checks.whole_set import RADIUS
    from imgpipe.components.image_filter.near_search import near_duplicates

    kept: dict[str, str] = {}
    hashes: dict[str, bytes] = {}
    for split in names.SPLITS:
        for example in records.iterate(examples_uri, split):
            image_hash = records.text(example, names.IMAGE_HASH)
            kept[image_hash] = split
            hashes[image_hash] = records.raw(example, names.PERCEPTUAL_HASH)
            progress.advance(1, "images")
    groups = near_duplicates({**images, **hashes}, RADIUS).groups
    splits: dict[int, set[str]] = {}
    for image_hash in kept:
        if image_hash in groups:
            splits.setdefault(groups[image_hash], set()).add(kept[image_hash])
    found = {}
    for image_hash in images:
        near = {kept[image_hash]} if image_hash in kept else splits.get(groups.get(image_hash, -1))
        if near:
            found[image_hash] = min(near, key=names.SPLITS.index)
    return found


def shown_images(request: EvaluationRequest, found: Mapping[str, Any]) -> dict[str, bytes]:
    """Read the images that the page of an evaluation shows, and explain the worst mistakes.

    Returns:
        Encoded images of the mistakes, by image hash, and their Grad-CAM, by
        `imgpipe.components.report.thumbnails.cam_key`.
    """
    from imgpipe.components.common.image_file.transcoding import for_the_model
    from imgpipe.components.report import thumbnails

    hashes = {row["path"]: row["image_hash"] for row in found["mistakes"]}
    images = {}
    for item in request.scan.items:
        if item.path in hashes:
            # The page shows a mistake without its image if the file was removed since.
            with contextlib.suppress(OSError):
                data = request.source.read(item)
                images[hashes[item.path]] = for_the_model(data, request.config.judge.pixel_limit)
    wanted = list(hashes.values())[: thumbnails.EXPLAINED]
    return images | thumbnails.encoded_cams(str(request.model.folder), images, wanted)
