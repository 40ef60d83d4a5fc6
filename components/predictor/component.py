"""Predictor: runs the served signature on every kept image, in the C++ session loader.

The report, the calibration and later comparisons read these predictions. None of them comes from
the model object of the training code.
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

#: Images in one session call; larger batches have no better throughput on a CPU.
IMAGES_A_BATCH = 32
_KEPT = (names.PATH, names.SPLIT, names.LABEL, names.IMAGE_HASH)


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
      examples: Kept images, Examples of ImageFilter.
      model: Exported model of ImageTrainer.
      predictions: Output: tf.Examples with path, split, label, predicted label and probabilities.
        Above 1,000 classes only the probabilities of some classes are stored.
      beam_pipeline: Beam pipeline, supplied by TFX.
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
