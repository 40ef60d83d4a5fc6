"""Predictor: runs the served signature on the kept images, in the C++ session loader.

ImageEvaluator, the report and later comparisons read these predictions, so that no other component
runs the model on these images. In validation and test they are the answers of the served signature,
with those of the baseline beside them. The baseline is asked only about images that it did not
answer in an earlier run; see `answers`. The predictions of training images come from the head and
the features in the bank, if ImageTrainer has found that the head answers as the whole network does,
and ServingValidator that the served signature does so too.
"""

import logging
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model, ModelRun
from tfx.utils import path_utils

from imgpipe.components import blessings, loaded_model
from imgpipe.components.baseline.component import is_empty
from imgpipe.components.beam import beam_io
from imgpipe.components.predictor import answers, prediction
from imgpipe.components.predictor.answers import Answers
from imgpipe.components.storage import manifest, records
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.export.served_model import Served
from imgpipe.models.head import stored_head
from imgpipe.models.head.stored_head import StoredHead

_log = logging.getLogger(__name__)

#: Images in one session call; larger batches have no better throughput on a CPU.
IMAGES_A_BATCH = 32
_FEATURES_A_BATCH = 1024  # each has a vector of 2.6 kB with the default backbone
_KEPT = (names.PATH, names.SPLIT, names.IMAGE_HASH)
#: Features that are copied to the prediction of an image, so that the report can say on which kinds
#: of images the model is weak without reading the images again.
_DESCRIBED = (names.FORMAT, names.WIDTH, names.HEIGHT, names.BRIGHTNESS, names.SHARPNESS)


class Predict(beam.DoFn):
    """Maps batches of serialised image Examples to (split, serialised prediction) pairs.

    Args:
        directory: SavedModel of the exported model.
        baseline: SavedModel of the baseline; "" if there is none. The same folder as `directory` if
            the baseline is the same model, which then runs once.
        store: Folder of the answers that are kept for later runs, as `Answers` takes it.
    """

    def __init__(self, directory: str, baseline: str = "", store: str = "") -> None:
        self._directory, self._baseline, self._store = directory, baseline, store

    def setup(self) -> None:
        """Load the model on the worker, and open the answers of earlier runs."""
        # The output with the names of all classes is omitted; the vocabulary has them already.
        self._served = loaded_model.served(self._directory, (names.LABEL, names.PROBABILITIES))
        self._kept = Answers(self._store, model_digest(self._directory))
        self._other = BaselineAnswers(self._baseline, self._store)

    def teardown(self) -> None:
        """Close the sessions and the answers."""
        self._served.close()
        self._kept.close()
        self._other.close()

    def process(self, batch: list[bytes]) -> Iterator[tuple[str, bytes]]:
        """Predict one batch in one session call of each model."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        images = [records.raw(example, names.IMAGE_BYTES) for example in examples]
        out = self._served.run(image_bytes=images)
        rows = out[names.PROBABILITIES]
        keys = [answers.key_of(image) for image in images]
        # This model is the baseline of a later run if it is blessed.
        self._kept.put(dict(zip(keys, rows, strict=True)))
        asked = self._baseline not in ("", self._directory)
        compared = self._other.rows(keys, images, rows.shape[1]) if asked else rows
        progress.advance(len(examples), "images")
        for i, example in enumerate(examples):
            label = records.raw(example, names.LABEL)
            baseline = compared[i] if self._baseline else None
            yield _record(example, label, rows[i], bytes(out[names.LABEL][i]), baseline)


class BaselineAnswers:
    """A baseline that is loaded when it is asked about an image for the first time.

    Args:
        directory: SavedModel of the baseline; "" if there is none.
        store: Folder of the answers that are kept.
    """

    def __init__(self, directory: str, store: str) -> None:
        self._directory = directory
        self._kept = Answers(store, model_digest(directory) if directory else "")
        self._served: Served | None = None

    def rows(self, keys: list[bytes], images: list[bytes], classes: int) -> np.ndarray:
        """Return the probabilities, [n, classes], for images that have these keys."""
        found = self._kept.get(keys, classes)
        missing = [i for i, key in enumerate(keys) if key not in found]
        if missing:
            if self._served is None:
                self._served = Served(self._directory, outputs=(names.PROBABILITIES,))
            new = self._served.run(image_bytes=[images[i] for i in missing])[names.PROBABILITIES]
            fresh = {keys[i]: row for i, row in zip(missing, new, strict=True)}
            self._kept.put(fresh)
            found |= fresh
        return np.stack([found[key] for key in keys])

    def close(self) -> None:
        """Close what was opened."""
        self._kept.close()
        if self._served is not None:
            self._served.close()


class PredictFromFeatures(beam.DoFn):
    """Maps batches of serialised feature records to (split, serialised prediction) pairs."""

    def __init__(self, head: StoredHead) -> None:
        self._head = head

    def process(self, batch: list[bytes]) -> Iterator[tuple[str, bytes]]:
        """Predict the clean views of one batch."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        examples = [example for example in examples if not records.integer(example, names.VIEW)]
        if not examples:
            return
        stored = [np.frombuffer(records.raw(one, names.FEATURES), "<f2") for one in examples]
        vocabulary = self._head.vocabulary
        progress.advance(len(examples), "images")
        for example, row in zip(examples, self._head.probabilities(np.stack(stored)), strict=True):
            index = records.integer(example, names.LABEL_INDEX, -1)
            label = vocabulary[index].encode() if index >= 0 else b""
            yield _record(example, label, row, self._head.label(row).encode())


def _record(
    example: tf.train.Example,
    label: bytes,
    probabilities: np.ndarray,
    predicted: bytes,
    baseline: np.ndarray | None = None,
) -> tuple[str, bytes]:
    """Return the split and the serialised prediction for one image."""
    values: dict[str, records.Value] = {name: records.raw(example, name) for name in _KEPT}
    described = {name: records.first(example, name) for name in _DESCRIBED}
    values |= {name: value for name, value in described.items() if value is not None}
    index = records.integer(example, names.LABEL_INDEX, -1)
    values |= prediction.features(probabilities, index, baseline)
    values |= {names.LABEL: label, names.LABEL_INDEX: index, names.PREDICTED: predicted}
    return records.text(example, names.SPLIT), records.serialise(records.make(values))


@component(use_beam=True)
def Predictor(
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    bank: InputArtifact[Examples],
    predictions: OutputArtifact[Examples],
    baseline_model: InputArtifact[Model] = None,
    infra_blessing: InputArtifact[InfraBlessing] = None,
    store: Parameter[str] = "",
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Predict every kept image.

    A model that ServingValidator refused is asked all the same, so that the report can say how
    accurate it is. If it does not answer, there are no predictions.

    Args:
        examples: Kept images, Examples of ImageFilter.
        model: Exported model of ImageTrainer.
        model_run: ModelRun of ImageTrainer, which holds the head where it can answer by itself.
        bank: Features of the kept images, Examples of FeatureBank.
        predictions: Output: tf.Examples with path, split, format, size, measurements, label,
            predicted label and probabilities, and in validation and test those of the baseline.
            Above 1,000 classes only the probabilities of some classes are stored.
        baseline_model: Model of Baseline, which may be empty.
        infra_blessing: Blessing of ServingValidator; without it the model counts as blessed.
        store: Folder of the answers that are kept for later runs; "" keeps none. See `Answers`.
        code: Fingerprint of the code that predicts and evaluates, which is part of TFX's cache key.
        beam_pipeline: Beam pipeline, supplied by TFX.
    """
    beam_io.mark_examples(predictions)
    serves = infra_blessing is None or blessings.is_blessed(
        infra_blessing.uri, blessings.INFRA_BLESSED
    )
    head = stored_head.read(model_run.uri) if serves else None
    served = names.SPLITS if head is None else (names.VALIDATION, names.TEST)
    directory = path_utils.serving_model_path(model.uri)
    baseline = "" if baseline_model is None else baseline_model_of(directory, baseline_model.uri)
    answers.forget_others(store, {model_digest(one) for one in (directory, baseline) if one})
    try:
        with beam_pipeline as pipeline:
            _ = (
                pipeline
                | "Read" >> beam_io.ReadSplits(examples.uri, served)
                | "Batch" >> beam.BatchElements(IMAGES_A_BATCH, IMAGES_A_BATCH)
                | "Predict" >> beam.ParDo(Predict(directory, baseline, store))
                | "Write" >> beam_io.WriteSplits(predictions.uri, served)
            )
            if head is not None:
                _predict_train(pipeline, bank.uri, head, predictions.uri)
    except Exception:
        if serves:
            raise
        _log.exception("the model, which ServingValidator refused, does not answer")
        _write_nothing(predictions.uri)


def _predict_train(pipeline: Any, bank_uri: str, head: StoredHead, uri: str) -> None:
    """Add the predictions of the training images from their features to a Beam pipeline."""
    _ = (
        pipeline
        | "ReadFeatures" >> beam_io.ReadSplits(bank_uri, (names.TRAIN,))
        | "BatchFeatures" >> beam.BatchElements(_FEATURES_A_BATCH, _FEATURES_A_BATCH)
        | "PredictFromFeatures" >> beam.ParDo(PredictFromFeatures(head))
        | "WriteTrain" >> beam_io.WriteSplits(uri, (names.TRAIN,))
    )


def baseline_model_of(directory: str, uri: str) -> str:
    """Folder of the SavedModel of the baseline; `directory` if it is the same model."""
    if is_empty(uri):
        return ""
    baseline = str(path_utils.serving_model_path(uri))
    digest = model_digest(baseline)
    return directory if digest and digest == model_digest(directory) else baseline


def model_digest(directory: str) -> str:
    """Return the digest of an exported model; "" for a model that was exported by other code."""
    path = f"{directory}/{manifest.MODEL_DIGEST}"
    if not tf.io.gfile.exists(path):
        return ""
    with tf.io.gfile.GFile(path) as file:
        return str(file.read())


def _write_nothing(uri: str) -> None:
    """Replace the output of a failed pipeline with splits without predictions."""
    records.remove_folder(uri)
    with records.ShardWriter({s: records.shard_path(uri, s, 0, 1) for s in names.SPLITS}):
        pass
