"""Predictor: runs the served signature on every kept image, in the C++ session loader.

The report, the calibration and later comparisons read these predictions. Those of validation and
test are the answers of the served signature. Training images are answered by the head on the
features of the bank, where ImageTrainer has found that these answers are the network's.
"""

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model, ModelRun
from tfx.utils import path_utils

from imgpipe.components import beam_io, records
from imgpipe.components.predictor import prediction
from imgpipe.models import feature_names as names
from imgpipe.models import progress, stored_head
from imgpipe.models.served_model import Served
from imgpipe.models.stored_head import StoredHead

#: Images in one session call; larger batches have no better throughput on a CPU.
IMAGES_A_BATCH = 32
_FEATURES_A_BATCH = 1024
_KEPT = (names.PATH, names.SPLIT, names.IMAGE_HASH)
#: What else is kept of an image if it is known, so that the report can say on which kinds of images
#: the model is weak without a second look at them.
_DESCRIBED = (names.FORMAT, names.WIDTH, names.HEIGHT, names.BRIGHTNESS, names.SHARPNESS)


class Predict(beam.DoFn):
    """Maps batches of serialised image Examples to (split, serialised prediction) pairs."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def setup(self) -> None:
        """Load the model on the worker."""
        # The output with the names of all classes is omitted; the vocabulary has them already.
        self._served = Served(self._directory, outputs=(names.LABEL, names.PROBABILITIES))

    def teardown(self) -> None:
        """Close the session."""
        self._served.close()

    def process(self, batch: list[bytes]) -> Iterator[tuple[str, bytes]]:
        """Predict one batch in one session call."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        out = self._served.run(
            image_bytes=[records.raw(example, names.IMAGE_BYTES) for example in examples]
        )
        progress.advance(len(examples), "images")
        for i, example in enumerate(examples):
            label = records.raw(example, names.LABEL)
            yield _record(example, label, out[names.PROBABILITIES][i], bytes(out[names.LABEL][i]))


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
    example: tf.train.Example, label: bytes, probabilities: np.ndarray, predicted: bytes
) -> tuple[str, bytes]:
    """The split and the serialised prediction for one image."""
    values: dict[str, records.Value] = {name: records.raw(example, name) for name in _KEPT}
    for name in _DESCRIBED:
        if (value := records.first(example, name)) is not None:
            values[name] = value
    index = records.integer(example, names.LABEL_INDEX, -1)
    values |= prediction.features(probabilities, index)
    values |= {names.LABEL: label, names.LABEL_INDEX: index, names.PREDICTED: predicted}
    return records.text(example, names.SPLIT), records.serialise(records.make(values))


@component(use_beam=True)
def Predictor(
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    bank: InputArtifact[Examples],
    predictions: OutputArtifact[Examples],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Predict every kept image.

    Args:
      examples: Kept images, Examples of ImageFilter.
      model: Exported model of ImageTrainer.
      model_run: ModelRun of ImageTrainer, which holds the head where it can answer by itself.
      bank: Features of the kept images, Examples of FeatureBank.
      predictions: Output: tf.Examples with path, split, format, size, measurements, label,
        predicted label and probabilities.
        Above 1,000 classes only the probabilities of some classes are stored.
      beam_pipeline: Beam pipeline, supplied by TFX.
    """
    beam_io.mark_examples(predictions)
    head = stored_head.read(model_run.uri)
    served = names.SPLITS if head is None else (names.VALIDATION, names.TEST)
    with beam_pipeline as pipeline:
        _ = (
            pipeline
            | "Read" >> beam_io.ReadSplits(examples.uri, served)
            | "Batch" >> beam.BatchElements(IMAGES_A_BATCH, IMAGES_A_BATCH)
            | "Predict" >> beam.ParDo(Predict(path_utils.serving_model_path(model.uri)))
            | "Write" >> beam_io.WriteSplits(predictions.uri, served)
        )
        if head is not None:
            _ = (
                pipeline
                | "ReadFeatures" >> beam_io.ReadSplits(bank.uri, (names.TRAIN,))
                | "BatchFeatures" >> beam.BatchElements(_FEATURES_A_BATCH, _FEATURES_A_BATCH)
                | "PredictFromFeatures" >> beam.ParDo(PredictFromFeatures(head))
                | "WriteTrain" >> beam_io.WriteSplits(predictions.uri, (names.TRAIN,))
            )
