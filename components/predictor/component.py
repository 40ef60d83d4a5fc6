"""Predictor: every kept image through the served signature, in the C++ session loader.

What it writes is read by the report, by calibration and by later comparisons; nothing of it is
computed by the training code's own model object.
"""

from collections.abc import Iterator

import apache_beam as beam
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

from imgpipe.components import beam_io, records
from imgpipe.components.predictor import prediction
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.served_model import Served

#: Images a session call: the throughput of larger batches is no better on a CPU.
IMAGES_A_BATCH = 32
_KEPT = (names.PATH, names.SPLIT, names.LABEL, names.IMAGE_HASH)


class Predict(beam.DoFn):
    """Batches of image examples to (split, prediction record)."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def setup(self) -> None:
        """Load the model on the worker."""
        # The names of all classes with every image are left out: they come from the vocabulary.
        self._served = Served(self._directory, outputs=(names.LABEL, names.PROBABILITIES))

    def teardown(self) -> None:
        """Free the session."""
        self._served.close()

    def process(self, batch: list[bytes]) -> Iterator[tuple[str, bytes]]:
        """One call a batch."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        out = self._served.run(
            image_bytes=[records.raw(example, names.IMAGE_BYTES) for example in examples]
        )
        progress.advance(len(examples), "images")
        for i, example in enumerate(examples):
            values: dict[str, records.Value] = {n: records.raw(example, n) for n in _KEPT}
            label = records.integer(example, names.LABEL_INDEX, -1)
            values[names.LABEL_INDEX] = label
            values |= prediction.features(out[names.PROBABILITIES][i], label)
            values[names.PREDICTED] = bytes(out[names.LABEL][i])
            split = records.text(example, names.SPLIT)
            yield split, records.serialise(records.make(values))


@component(use_beam=True)
def Predictor(
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    predictions: OutputArtifact[Examples],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Predict every kept image.

    Args:
      examples: kept images.
      model: the Trainer's export.
      predictions: tf.Examples with path, split, label, probabilities (of some classes, where there
        are more than 1,000) and predicted label.
      beam_pipeline: given by TFX.
    """
    beam_io.mark_examples(predictions)
    with beam_pipeline as pipeline:
        _ = (
            pipeline
            | "Read" >> beam_io.ReadSplits(examples.uri)
            | "Batch" >> beam.BatchElements(IMAGES_A_BATCH, IMAGES_A_BATCH)
            | "Predict" >> beam.ParDo(Predict(path_utils.serving_model_path(model.uri)))
            | "Write" >> beam_io.WriteSplits(predictions.uri)
        )
