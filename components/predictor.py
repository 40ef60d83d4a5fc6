"""Predictor: every kept image through the served signature, in the C++ session loader.

What it writes is read by the report, by calibration and by later comparisons; nothing of it is
computed by the training code's own model object.
"""

from collections.abc import Iterator
from typing import Any

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

from components import beam_io, records
from models import feature_names as names
from models import progress

#: Images a session call: the throughput of larger batches is no better on a CPU.
IMAGES_A_BATCH = 32
_KEPT = (names.PATH, names.SPLIT, names.LABEL, names.IMAGE_HASH)


class Served:
    """A SavedModel's signature in a graph session, as TensorFlow Serving runs it."""

    def __init__(self, directory: str, signature: str = "serving_default") -> None:
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._session = tf.compat.v1.Session(graph=self._graph)
            meta = tf.compat.v1.saved_model.load(self._session, ["serve"], directory)
        definition = meta.signature_def[signature]
        self._inputs = {key: info.name for key, info in definition.inputs.items()}
        self._outputs = {key: info.name for key, info in definition.outputs.items()}

    def run(self, **inputs: Any) -> dict[str, Any]:
        """Outputs by name, as numpy arrays."""
        feeds = {self._inputs[name]: value for name, value in inputs.items()}
        return dict(self._session.run(self._outputs, feeds))

    def close(self) -> None:
        """Free the session."""
        self._session.close()


class Predict(beam.DoFn):
    """Batches of image examples to (split, prediction record)."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def setup(self) -> None:
        """Load the model on the worker."""
        self._served = Served(self._directory)

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
            values[names.LABEL_INDEX] = records.integer(example, names.LABEL_INDEX, -1)
            values[names.PROBABILITIES] = [float(p) for p in out["probabilities"][i]]
            values[names.PREDICTED] = bytes(out["label"][i])
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
      predictions: tf.Examples with path, split, label, probabilities and predicted label.
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
