"""Predictor: runs the served signature on the held-out images, in a session of TensorFlow.

ImageEvaluator, the report and later comparisons read these predictions, so that no other component
runs the model on these images. The answers of the baseline are stored beside them.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

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

from imgpipe.components.common import artifacts, kept_model
from imgpipe.components.common.answer_table import PREDICTED_SPLITS
from imgpipe.components.common.artifacts import mark_examples
from imgpipe.components.common.storage import manifest, records
from imgpipe.components.common.storage.records import Shard, batches, shards
from imgpipe.components.image_evaluator.baseline import is_empty
from imgpipe.components.image_evaluator.settings import ANSWERS_FOLDER, BASELINE_FILE
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import images_at_once
from imgpipe.models.settings.given import Given
from imgpipe.serving.server.runtime import Runtime

_log = logging.getLogger(__name__)

_TINY = 1e-30  # keeps divisions finite
#: Features by which images are found, and by which TFMA divides them.
_KEPT = (names.IMAGE_HASH, names.SPLIT, names.LABEL)


class Predict(beam.DoFn):
    """Writes the predictions for the images of a shard.

    Args:
        uri: URI of the artifact that is written.
        directory: SavedModel of the exported model.
        baseline: SavedModel of the baseline; "" if there is none. The same folder as `directory` if
            the baseline is the same model, which then runs once.
        columns: For each class its index in the probabilities of the baseline, -1 for a class that
            the baseline does not know, whose probability is then 0.
        answers: Folder with predictions in which the baseline has answered for some images; "" for
            none.

    For images that a model has learned from, the answers of networks without them take the place of
    its own; see `models.trainer`.
    """

    def __init__(
        self,
        uri: str,
        directory: str,
        baseline: str = "",
        columns: Sequence[int] = (),
        answers: str = "",
    ) -> None:
        self._uri = uri
        self._directory = directory
        self._baseline = baseline
        self._columns = columns
        self._answers = answers

    def setup(self) -> None:
        """Load the models on the worker, the baseline only when it is asked."""
        self._runtime = kept_model.runtime(self._directory)
        self._baseline_runtime: Runtime | None = None
        self._learned = _learned(self._directory)
        self._baseline_answers = {**_stored(self._answers), **_learned(self._baseline)}

    def teardown(self) -> None:
        """Close the sessions."""
        self._runtime.close()
        if self._baseline_runtime is not None:
            self._baseline_runtime.close()

    def process(self, shard: Shard) -> None:
        """Predict the images of a shard in batches."""
        with records.ShardWriter(shard.outputs(self._uri, PREDICTED_SPLITS)) as writer:
            for batch in batches(shard.records(), images_at_once()):
                for split, prediction in self._predictions(batch):
                    writer.write(split, prediction)

    def _predictions(self, batch: list[bytes]) -> Iterator[tuple[str, tf.train.Example]]:
        """Predict one batch in one session call of each model."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        images = [records.raw(example, names.IMAGE_BYTES) for example in examples]
        hashes = [records.raw(example, names.IMAGE_HASH) for example in examples]
        answers = self._answers_of_model(hashes, images)
        baseline_answers = answers
        if self._baseline not in ("", self._directory):
            baseline_answers = [
                self._in_own_classes(answer) for answer in self._answers_of_baseline(hashes, images)
            ]
        progress.advance(len(examples), "images")
        for i, example in enumerate(examples):
            yield _record(example, answers[i], baseline_answers[i] if self._baseline else None)

    def _answers_of_model(self, hashes: list[bytes], images: list[bytes]) -> list[np.ndarray]:
        """Return the answers of the model, or of networks that have not learned from the images.

        A batch is asked as a whole, since the last bits of an answer depend on the number of images
        that a session computes at once.
        """
        if all(digest in self._learned for digest in hashes):
            return [self._learned[digest] for digest in hashes]
        answers = self._runtime.answer(image_bytes=images)[names.PROBABILITIES]
        return [
            self._learned.get(digest, answer)
            for digest, answer in zip(hashes, answers, strict=True)
        ]

    def _answers_of_baseline(self, hashes: list[bytes], images: list[bytes]) -> list[np.ndarray]:
        """Return the answers of the baseline, which is asked only where none is known."""
        missing = [i for i, digest in enumerate(hashes) if digest not in self._baseline_answers]
        fresh: dict[int, np.ndarray] = {}
        if missing:
            if self._baseline_runtime is None:
                self._baseline_runtime = Runtime(Path(self._baseline))
            outputs = self._baseline_runtime.answer(image_bytes=[images[i] for i in missing])
            fresh = dict(zip(missing, outputs[names.PROBABILITIES], strict=True))
        return [
            fresh[i] if i in fresh else self._baseline_answers[digest]
            for i, digest in enumerate(hashes)
        ]

    def _in_own_classes(self, probabilities: np.ndarray) -> np.ndarray:
        """Return an answer of the baseline, [C'], for the classes of the model, [C]."""
        columns = np.array(self._columns)
        selected = np.where(columns < 0, 0, probabilities[columns])
        rescaled: np.ndarray = selected / np.maximum(selected.sum(), _TINY)
        return rescaled


def _learned(directory: str) -> dict[bytes, np.ndarray]:
    """Read the answer for each image that a model has learned, by the hash of the image."""
    out_of_fold = OutOfFold.read(directory)
    if out_of_fold is None:
        return {}
    return dict(zip(out_of_fold.hashes.tolist(), out_of_fold.probabilities, strict=True))


def _stored(uri: str) -> dict[bytes, np.ndarray]:
    """Read the answers in the predictions of an earlier run; none if they are damaged."""
    if not uri:
        return {}
    answers = {}
    try:
        for split in PREDICTED_SPLITS:
            for example in records.iterate(uri, split):
                row = np.array(records.floats(example, names.PROBABILITIES), np.float32)
                answers[records.raw(example, names.IMAGE_HASH)] = row
    except ResourceError as error:
        _log.warning("the baseline is asked again: %s", error)
        return {}
    return answers


def _record(
    example: tf.train.Example,
    answer: np.ndarray,
    baseline: np.ndarray | None,
) -> tuple[str, tf.train.Example]:
    """Return the split and the prediction for one image."""
    values: dict[str, records.Value] = {name: records.raw(example, name) for name in _KEPT}
    values[names.LABEL_INDEX] = records.integer(example, names.LABEL_INDEX, -1)
    values[names.PROBABILITIES] = answer.tolist()
    if baseline is not None:
        values[names.BASELINE_PROBABILITIES] = baseline.tolist()
    return records.text(example, names.SPLIT), records.make(values)


@component(use_beam=True)
def Predictor(
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    predictions: OutputArtifact[Examples],
    baseline_model: InputArtifact[Model] = None,
    infra_blessing: InputArtifact[InfraBlessing] = None,
    settings: Parameter[str] = "{}",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Predict the images of validation and test.

    A model that ServingValidator refused is asked all the same, so that the report can say how
    accurate it is. If it does not answer, there are no predictions.

    Args:
        examples: Kept images, Examples of ImageFilter.
        model: Exported model of ImageTrainer.
        predictions: Output: tf.Examples with content hash, split, label and probabilities, and
            those of the baseline.
        baseline_model: Model of Baseline, which may be empty.
        infra_blessing: Blessing of ServingValidator; without it the model counts as blessed.
        settings: What it reads; see `imgpipe.models.settings.given`.
        beam_pipeline: Beam pipeline, supplied by TFX.
    """
    mark_examples(predictions)
    serves = infra_blessing is None or artifacts.is_blessed(
        infra_blessing.uri, artifacts.INFRA_BLESSED
    )
    directory = path_utils.serving_model_path(model.uri)
    baseline = ""
    columns = ()
    answers = ""
    if baseline_model is not None and not is_empty(baseline_model.uri):
        baseline = baseline_model_of(directory, baseline_model.uri)
        columns = records.read_json(f"{baseline_model.uri}/{BASELINE_FILE}")["columns"]
        answers = answers_of(baseline, baseline_model.uri, Given.read(settings).facts.code)
    predict = Predict(predictions.uri, directory, baseline, columns, answers)
    try:
        with beam_pipeline as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(shards(examples.uri, PREDICTED_SPLITS), reshuffle=True)
                | "Predict" >> beam.ParDo(predict)
            )
        records.remove_temporary(predictions.uri)  # of attempts that died
    except Exception:
        if serves:
            raise
        _log.exception("the model, which ServingValidator refused, does not answer")
        records.remove_folder(predictions.uri)
        with records.ShardWriter(Shard((), 0, 1).outputs(predictions.uri, PREDICTED_SPLITS)):
            pass  # splits without predictions


def baseline_model_of(directory: str, uri: str) -> str:
    """Folder of the SavedModel of the baseline; `directory` if it is the same model."""
    baseline = str(path_utils.serving_model_path(uri))
    files = [f"{folder}/{manifest.MODEL_DIGEST}" for folder in (directory, baseline)]
    if not all(map(tf.io.gfile.exists, files)):  # a model that was exported by other code has none
        return baseline
    digest, baseline_digest = (records.read_json(file) for file in files)
    return directory if digest == baseline_digest else baseline


def answers_of(baseline: str, uri: str, code: str) -> str:
    """Return the folder with answers of the baseline that this code would give, too; "" if none."""
    digest = f"{baseline}/{manifest.MODEL_DIGEST}"
    folder = f"{uri}/{ANSWERS_FOLDER}"
    if not all(map(tf.io.gfile.exists, (digest, folder))):
        return ""
    return folder if records.read_json(digest).get("source") == code else ""
