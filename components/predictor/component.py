"""Predictor: runs the served signature on the held-out images, in a session of TensorFlow.

ImageEvaluator, the report and later comparisons read these predictions, so that no other component
runs the model on these images. The answers of the baseline are stored beside them.
"""

import logging
from collections.abc import Iterator, Sequence

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
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model
from tfx.utils import path_utils

from imgpipe.components import blessings, loaded_model
from imgpipe.components.baseline import STATE, is_empty
from imgpipe.components.beam import beam_io
from imgpipe.components.predictor.prediction import DESCRIBED
from imgpipe.components.storage import manifest, records
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.serving.server.served import Served

_log = logging.getLogger(__name__)

#: Images in one session call; larger batches have no better throughput on a CPU.
IMAGES_A_BATCH = 32
#: Splits whose images are predicted.
SPLITS = (names.VALIDATION, names.TEST)
_TINY = 1e-30  # keeps divisions finite
_KEPT = (names.PATH, names.SPLIT, names.IMAGE_HASH)


class Predict(beam.DoFn):
    """Maps batches of serialised image Examples to (split, serialised prediction) pairs.

    Args:
        directory: SavedModel of the exported model.
        baseline: SavedModel of the baseline; "" if there is none. The same folder as `directory` if
            the baseline is the same model, which then runs once.
        columns: For each class its index in the probabilities of the baseline, -1 for a class that
            the baseline does not know, whose probability is then 0.
    """

    def __init__(self, directory: str, baseline: str = "", columns: Sequence[int] = ()) -> None:
        self._directory, self._baseline, self._columns = directory, baseline, columns

    def setup(self) -> None:
        """Load the models on the worker."""
        # The output with the names of all classes is omitted; the vocabulary has them already.
        self._served = loaded_model.served(self._directory, (names.LABEL, names.PROBABILITIES))
        self._other = None
        if self._baseline not in ("", self._directory):
            self._other = Served(self._baseline, outputs=(names.PROBABILITIES,))

    def teardown(self) -> None:
        """Close the sessions."""
        self._served.close()
        if self._other is not None:
            self._other.close()

    def process(self, batch: list[bytes]) -> Iterator[tuple[str, bytes]]:
        """Predict one batch in one session call of each model."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        images = [records.raw(example, names.IMAGE_BYTES) for example in examples]
        out = self._served.run(image_bytes=images)
        rows = out[names.PROBABILITIES]
        others = rows
        if self._other is not None:
            found = self._other.run(image_bytes=images)[names.PROBABILITIES]
            others = np.where(np.array(self._columns) < 0, 0, found[:, self._columns])
            others /= np.maximum(others.sum(axis=1, keepdims=True), _TINY)
        progress.advance(len(examples), "images")
        for i, example in enumerate(examples):
            baseline = others[i] if self._baseline else None
            yield _record(example, rows[i], bytes(out[names.LABEL][i]), baseline)


def _record(
    example: tf.train.Example,
    probabilities: np.ndarray,
    predicted: bytes,
    baseline: np.ndarray | None,
) -> tuple[str, bytes]:
    """Return the split and the serialised prediction for one image."""
    values: dict[str, records.Value] = {name: records.raw(example, name) for name in _KEPT}
    described = {name: records.first(example, name) for name in DESCRIBED}
    values |= {name: value for name, value in described.items() if value is not None}
    index = records.integer(example, names.LABEL_INDEX, -1)
    values[names.PROBABILITIES] = probabilities.tolist()
    if baseline is not None:
        values[names.BASELINE_PROBABILITIES] = baseline.tolist()
    label = records.raw(example, names.LABEL)
    values |= {names.LABEL: label, names.LABEL_INDEX: index, names.PREDICTED: predicted}
    return records.text(example, names.SPLIT), records.serialise(records.make(values))


@component(use_beam=True)
def Predictor(
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    predictions: OutputArtifact[Examples],
    baseline_model: InputArtifact[Model] = None,
    infra_blessing: InputArtifact[InfraBlessing] = None,
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Predict the images of validation and test.

    A model that ServingValidator refused is asked all the same, so that the report can say how
    accurate it is. If it does not answer, there are no predictions.

    Args:
        examples: Kept images, Examples of ImageFilter.
        model: Exported model of ImageTrainer.
        predictions: Output: tf.Examples with path, split, format, size, measurements, label,
            predicted label and probabilities, and those of the baseline.
        baseline_model: Model of Baseline, which may be empty.
        infra_blessing: Blessing of ServingValidator; without it the model counts as blessed.
        code: Fingerprint of the code that predicts and evaluates, which is part of TFX's cache key.
        beam_pipeline: Beam pipeline, supplied by TFX.
    """
    beam_io.mark_examples(predictions)
    serves = infra_blessing is None or blessings.is_blessed(
        infra_blessing.uri, blessings.INFRA_BLESSED
    )
    directory = path_utils.serving_model_path(model.uri)
    baseline, columns = "", ()
    if baseline_model is not None and not is_empty(baseline_model.uri):
        baseline = baseline_model_of(directory, baseline_model.uri)
        columns = records.read_json(f"{baseline_model.uri}/{STATE}")["columns"]
    try:
        with beam_pipeline as pipeline:
            _ = (
                pipeline
                | "Read" >> beam_io.ReadSplits(examples.uri, SPLITS)
                | "Batch" >> beam.BatchElements(IMAGES_A_BATCH, IMAGES_A_BATCH)
                | "Predict" >> beam.ParDo(Predict(directory, baseline, columns))
                | "Write" >> beam_io.WriteSplits(predictions.uri, SPLITS)
            )
    except Exception:
        if serves:
            raise
        _log.exception("the model, which ServingValidator refused, does not answer")
        _write_nothing(predictions.uri)


def baseline_model_of(directory: str, uri: str) -> str:
    """Folder of the SavedModel of the baseline; `directory` if it is the same model."""
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
    with records.ShardWriter({s: records.shard_path(uri, s, 0, 1) for s in SPLITS}):
        pass
