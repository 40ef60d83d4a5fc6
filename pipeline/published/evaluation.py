"""Evaluates a model on labelled images, with the metrics of the report.

The answers are those of the served signature, as in a run. An image that cannot be read, that the
signature cannot decode, or whose label is none of the model's classes, cannot be judged and is
counted beside the metrics. A model with `model.unknown_rate` also answers the label "unknown".
"""

from __future__ import annotations

import contextlib
import itertools
import math
import numbers
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.example_gen.sources import Scan, Source
from imgpipe.components.example_gen.sources.validation import check_class_names
from imgpipe.models.errors import ConfigError
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.images.source import listed, opened, require_labels
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.model import Model
from imgpipe.pipeline.published.evaluation_summary import (
    EvaluationSummary,
    NotEvaluated,
    summarise,
)
from imgpipe.pipeline.published.seen_images import SeenImages, seen_images

if TYPE_CHECKING:
    from imgpipe.components.common.answer_table import AnswerRow, AnswerTable
    from imgpipe.components.common.image_record import ImageRecord
    from imgpipe.models.names.arrays import Floats

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

    @cached_property
    def judges_unknown(self) -> bool:
        """Whether "unknown" is judged as an answer, because images have this label.

        Otherwise the most probable class is judged, as in a run.
        """
        labels = (item.label for item in self.scan.items)
        return bool(self.model.unknown_below) and names.UNKNOWN in labels

    @property
    def judged_labels(self) -> tuple[str, ...]:
        """The classes, and "unknown" where it is judged as an answer."""
        return (*self.model.vocabulary, *([names.UNKNOWN] if self.judges_unknown else []))


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
    model = lookup.model(path, run, version)
    require_labels(config.data)
    # A recall needs images of one class only.
    source = opened(config.data, config.places.judge, least_classes=1)
    scan = listed(source)
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


@dataclass(frozen=True)
class Evaluated:
    """What was evaluated.

    Attributes:
        request: The model and the images.
        answers: The answers that are judged.
        summary: The result.
    """

    request: EvaluationRequest
    answers: AnswerTable
    summary: EvaluationSummary

    def html(self) -> str:
        """Draw the page as one HTML file, for which images are read again and explained."""
        from imgpipe.components.common.image_file.transcoding import for_the_model
        from imgpipe.components.report import evaluation_page
        from imgpipe.components.report.pictures import thumbnails

        page = evaluation_page.page(self.summary, self.answers)
        keys = {picture.key for picture in page.pictures()}
        hashes = dict(zip(self.answers.paths, self.answers.hashes.astype(str), strict=True))
        limit = self.request.config.judge.pixel_limit
        images: dict[str, bytes] = {}
        for item in self.request.scan.items:
            image_hash = str(hashes.get(item.path, ""))
            if image_hash in keys:
                # The page shows an answer without its image if the file was removed since.
                with contextlib.suppress(OSError):
                    images[image_hash] = for_the_model(self.request.source.read(item), limit)
        model = str(self.request.model.folder)
        explained = [row["image_hash"] for row in self.summary["mistakes"][: thumbnails.EXPLAINED]]
        return page.html(images | thumbnails.encoded_cams(model, images, explained))


def evaluate(request: EvaluationRequest, to_stderr: bool) -> Evaluated:
    """Evaluate a model while progress is displayed.

    Args:
        request: The model and the images.
        to_stderr: Whether progress is printed to standard error instead of standard output.

    Raises:
        ConfigError: No image could be judged.
    """
    from imgpipe.models.machine.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles

    model = request.model
    with consoles.counted(to_stderr) as display:
        with display.step("loading TensorFlow"), quick_imports():
            import tensorflow  # noqa: F401  # so that the next step's rate is that of the images
        excluded = NotEvaluated()
        with display.step("classifying images"):
            answered = [*_classified(request, excluded)]
        with display.step("comparing with training"):
            hashes = {
                record.image_hash: record.content.perceptual_hash or b"" for record, _ in answered
            }
            seen = seen_images(model, hashes)
        answers = _table(request, answered, seen)
        summary = summarise(model, request.scan.source, answers, excluded, seen, request.threshold)
    return Evaluated(request, answers, summary)


def _classified(
    request: EvaluationRequest, excluded: NotEvaluated
) -> Iterator[tuple[ImageRecord, Floats]]:
    """Yield each image that can be judged, without its pixels, and its probabilities, [C]."""
    from imgpipe.components.example_gen.inspection import inspect
    from imgpipe.components.image_filter.judge.decision import readable
    from imgpipe.serving.served import Served

    items = request.scan.items
    vocabulary = request.judged_labels
    limit = request.config.judge.pixel_limit
    folder = str(request.model.folder)
    with contextlib.closing(Served(folder, outputs=(names.PROBABILITIES,))) as served:
        progress.total(len(items), "images")
        inspected = inspect(request.source, items, limit, vocabulary=vocabulary)
        usable = _usable((readable(record, limit) for record in inspected), excluded)
        while batch := list(itertools.islice(usable, _BATCH)):
            answers = served.run(image_bytes=[record.image_bytes for record in batch])
            for record, row in zip(batch, answers[names.PROBABILITIES], strict=True):
                yield replace(record, image_bytes=b""), row


def _usable(inspected: Iterable[ImageRecord], excluded: NotEvaluated) -> Iterator[ImageRecord]:
    """Yield the images that can be judged, and note the others."""
    for record in inspected:
        progress.advance(1, "images")
        error = record.problem or record.read_error or record.content.decode_error
        if error:
            why = error.splitlines()[0]
            excluded.undecodable.append(
                {"path": record.path, "detail": why, "image_hash": record.image_hash}
            )
        elif record.label_index < 0:
            excluded.unknown_labels[record.label] += 1
        else:
            yield record


def _table(
    request: EvaluationRequest, answered: Sequence[tuple[ImageRecord, Floats]], seen: SeenImages
) -> AnswerTable:
    """Return the answers; the families of the images are found as in a run."""
    from imgpipe.components.common.answer_table import AnswerTable
    from imgpipe.components.image_filter.judge.image_row import ImageRow
    from imgpipe.components.image_filter.placement import families

    family_of = families.by_content(
        [ImageRow.of(record) for record, _ in answered if not record.group]
    )
    rows = [
        _answer(record, probabilities, request)._replace(
            group=(record.group or family_of.get(record.image_hash, "")).encode(),
            near=1 + seen.near.get(record.image_hash, -1),
            seen_family=record.image_hash in seen.learned,
        )
        for record, probabilities in answered
    ]
    return AnswerTable.of(request.judged_labels, rows)


def _answer(record: ImageRecord, probabilities: Floats, request: EvaluationRequest) -> AnswerRow:
    from imgpipe.components.common.answer_table import AnswerRow

    best = int(probabilities.argmax())
    label = record.label_index
    classes = len(request.model.vocabulary)
    predicted = best
    if request.judges_unknown and probabilities[best] < request.model.unknown_below:
        predicted = classes  # the label "unknown" comes after the classes
    return AnswerRow(
        path=record.path,
        image_hash=record.image_hash.encode(),
        split="",
        label=label,
        predicted=predicted,
        confidence=float(probabilities[best]),
        of_label=float(probabilities[label]) if label < classes else math.nan,
    )
