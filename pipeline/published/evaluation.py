"""Evaluates a published model on labelled images, with the metrics of the report.

The answers are those of the served signature, as in a run. An image that cannot be read, that the
signature cannot decode, or whose label is none of the model's classes, cannot be judged and is
counted beside the metrics.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.example_gen.sources import Scan, Source
from imgpipe.components.example_gen.sources.validation import check_class_names
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.errors import ConfigError, ImgpipeError
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.output import places
from imgpipe.pipeline.output.past_runs import PastRun

if TYPE_CHECKING:
    from imgpipe.components.image_record import ImageRecord
    from imgpipe.components.report.metrics import Row

_BATCH = 32  # images in one call of the signature
_VOCABULARY = "assets/vocabulary.txt"
_NAMED = 20  # labels that an error names


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
            classes = (folder / _VOCABULARY).read_text("utf-8").splitlines()
        except OSError:
            raise ConfigError(
                f"{folder} has no {_VOCABULARY}. Expected: a model that imgpipe has exported, "
                "which names its classes there."
            ) from None
        return cls(folder, tuple(classes))

    @property
    def run(self) -> PastRun | None:
        """The run that made the version; None if it cannot be found."""
        try:
            return places.run(self.folder)
        except ImgpipeError:
            return None

    @property
    def training_images(self) -> str | None:
        """Folder of the images of the run that made the version; None if it cannot be found."""
        uri = self.run.artifact("ImageFilter", "examples") if self.run else ""
        return uri if uri and Path(uri).is_dir() else None


@dataclass
class Judged:
    """The images of an evaluation, of which only hashes, figures and answers are kept.

    Attributes:
        rows: The images that were judged, with their predictions.
        hashes: Perceptual hashes by content hash, of the images that were judged.
        undecodable: Paths and reasons of files that cannot be read, that the source rejects or that
            the served signature does not decode.
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
        ConfigError: None of the labels is a class of the model, or one only looks like a class.
    """
    labels = {item.label for item in scan.items if item.label}
    check_class_names(scan.source, {*labels, *model.vocabulary})
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
    from imgpipe.serving.server.served import Served

    found = Judged()
    limit = config.judge.pixel_limit
    with contextlib.closing(Served(str(model.folder), outputs=(names.PROBABILITIES,))) as served:
        progress.total(len(scan.items), "images")
        records = inspect(source, scan.items, limit, vocabulary=model.vocabulary, as_served=True)
        judged = _judged(records, found)
        while batch := list(itertools.islice(judged, _BATCH)):
            answers = served.run(image_bytes=[record.image_bytes for record in batch])
            for record, row in zip(batch, answers[names.PROBABILITIES], strict=True):
                found.rows.append(_row(record, row))
                found.hashes[record.image_hash] = record.perceptual_hash or b""
    return found


def _judged(records: Iterator[ImageRecord], found: Judged) -> Iterator[ImageRecord]:
    """Yield the images that can be judged, and note the others."""
    for record in records:
        progress.advance(1, "images")
        if why := record.problem or record.read_error or record.decode_error:
            found.undecodable.append((record.path, why.splitlines()[0]))
        elif record.label_index < 0:
            found.unknown[record.label] += 1
        else:
            yield record


def _row(record: ImageRecord, probabilities: Any) -> Row:
    from imgpipe.components.predictor.prediction import Prediction
    from imgpipe.components.report.metrics import Row
    from imgpipe.components.report.slices import DESCRIBED

    best = int(probabilities.argmax())
    label = record.label_index
    described = record.features()
    kinds = {name: described.get(name) for name in DESCRIBED}
    kinds[names.FORMAT] = record.format.encode()
    prediction = Prediction(best, float(probabilities[best]), float(probabilities[label]))
    return Row(record.path, record.image_hash, label, prediction, kinds)


def shown_images(
    model: Model, source: Source, scan: Scan, found: Mapping[str, Any]
) -> dict[str, bytes]:
    """Read the images that the page of an evaluation shows, and explain the worst mistakes.

    Args:
        model: The version that was evaluated.
        source: The source of the images.
        scan: Its listing.
        found: What `evaluation_facts.facts` returned.

    Returns:
        Encoded images of the mistakes, by image hash, and their Grad-CAM, by
        `imgpipe.components.report.sections.mistakes.cam_key`.
    """
    from imgpipe.components.report import explanations

    hashes = {row["path"]: row["image_hash"] for row in found["mistakes"]}
    images = {}
    for item in scan.items:
        if item.path in hashes:
            # The page shows a mistake without its image if the file was removed since.
            with contextlib.suppress(OSError):
                images[hashes[item.path]] = source.read(item)
    wanted = list(hashes.values())[: explanations.EXPLAINED]
    return images | explanations.encoded_cams(str(model.folder), images, wanted)
