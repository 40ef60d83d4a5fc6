"""The answers of the served signature to the held-out images, in a session of TensorFlow.

ModelPusher, the report and later comparisons read these predictions, so that nothing else runs the
model on these images. The answers of the last version are stored beside them.

An answer is kept, and no model is asked twice for it: those of a version lie in its provenance, and
those of every other model in a folder of the output folder, which may be deleted. Both are the
predictions of a run. They are found by the digest of the model and the code, and then by the
content of the image.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import tensorflow as tf

from imgpipe.components.common import kept_model
from imgpipe.components.common.answer_table import PREDICTED_SPLITS
from imgpipe.components.common.storage import manifest, records
from imgpipe.components.common.storage.manifest import ANSWERS_FOLDER
from imgpipe.components.common.storage.records import Shard, batches, shards
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import TEMPORARY, move_folder
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import images_at_once
from imgpipe.serving.server.runtime import Runtime

_log = logging.getLogger(__name__)

_TINY = 1e-30  # keeps divisions finite
#: Features by which images are found, and by which TFMA divides them.
_KEPT = (names.IMAGE_HASH, names.SPLIT, names.LABEL)


@dataclass(frozen=True)
class AskedModel:
    """A model that answers, with plain values that Beam can pickle.

    Attributes:
        directory: Folder of its SavedModel.
        stored: Folder of predictions with answers that it has given; "" for none.
    """

    directory: str
    stored: str = ""


class _Answers:
    """The answers of a model, which is loaded when it is asked.

    For images that it has learned from, the answers of networks without them take the place of its
    own; see `models.trainer`.
    """

    def __init__(self, model: AskedModel) -> None:
        self._directory = model.directory
        self._learned = _learned(model.directory)
        self._known = {**_stored(model.stored), **self._learned}
        self._runtime: Runtime | None = None

    def close(self) -> None:
        """Close the session, if there is one."""
        if self._runtime is not None:
            self._runtime.close()

    def of_batch(self, hashes: list[bytes], images: list[bytes]) -> list[np.ndarray]:
        """Return the answers to a batch, which the model is asked as a whole or not at all.

        The last bits of an answer depend on the number of images that a session computes at once.
        """
        if all(digest in self._known for digest in hashes):
            return [self._known[digest] for digest in hashes]
        answers = self._ask(images)
        return [
            self._learned.get(digest, answer)
            for digest, answer in zip(hashes, answers, strict=True)
        ]

    def where_unknown(self, hashes: list[bytes], images: list[bytes]) -> list[np.ndarray]:
        """Return the answers to a batch, of which the model is asked for the unknown ones alone."""
        missing = [i for i, digest in enumerate(hashes) if digest not in self._known]
        fresh: dict[int, np.ndarray] = {}
        if missing:
            answers = self._ask([images[i] for i in missing])
            fresh = dict(zip(missing, answers, strict=True))
        return [fresh[i] if i in fresh else self._known[digest] for i, digest in enumerate(hashes)]

    def _ask(self, images: list[bytes]) -> np.ndarray:
        """Run the model on some images; return the probabilities, [n, C]."""
        if self._runtime is None:
            self._runtime = kept_model.runtime(self._directory)
        return self._runtime.answer(image_bytes=images)[names.PROBABILITIES]


class Predict(beam.DoFn):
    """Writes the predictions for the images of a shard.

    Args:
        uri: URI of the artifact that is written.
        model: The exported model.
        baseline: The last version; None if there is none to compare with. The same as `model` if
            it is the same model, which then runs once.
        columns: For each class its index in the probabilities of the baseline, -1 for a class that
            the baseline does not know, whose probability is then 0.
    """

    def __init__(
        self,
        uri: str,
        model: AskedModel,
        baseline: AskedModel | None = None,
        columns: Sequence[int] = (),
    ) -> None:
        self._uri = uri
        self._model = model
        self._baseline = baseline
        self._columns = columns

    def setup(self) -> None:
        """Read the stored answers on the worker; the models are loaded when they are asked."""
        self._answers = _Answers(self._model)
        self._answers_before: _Answers | None = None
        if self._baseline not in (None, self._model):
            self._answers_before = _Answers(self._baseline)

    def teardown(self) -> None:
        """Close the sessions."""
        self._answers.close()
        if self._answers_before is not None:
            self._answers_before.close()

    def process(self, shard: Shard) -> None:
        """Predict the images of a shard in batches."""
        with records.ShardWriter(shard.outputs(self._uri, PREDICTED_SPLITS)) as writer:
            for batch in batches(shard.records(), images_at_once()):
                for split, prediction in self._predictions(batch):
                    writer.write(split, prediction)

    def _predictions(self, batch: list[bytes]) -> Iterator[tuple[str, tf.train.Example]]:
        """Predict one batch in at most one session call of each model."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        images = [records.raw(example, names.IMAGE_BYTES) for example in examples]
        hashes = [records.raw(example, names.IMAGE_HASH) for example in examples]
        answers = self._answers.of_batch(hashes, images)
        before = answers
        if self._answers_before is not None:
            of_version = self._answers_before.where_unknown(hashes, images)
            before = [self._in_own_classes(answer) for answer in of_version]
        progress.advance(len(examples), "images")
        for i, example in enumerate(examples):
            yield _record(example, answers[i], before[i] if self._baseline else None)

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
        _log.warning("the model is asked again: %s", error)
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


def predict(pipeline: beam.Pipeline, examples: str, predict_shard: Predict, uri: str) -> None:
    """Run a Beam pipeline that writes the predictions for validation and test.

    Args:
        pipeline: An empty pipeline.
        examples: URI of the kept images.
        predict_shard: What predicts a shard.
        uri: URI of the predictions, to which it writes.
    """
    with pipeline as root:
        _ = (
            root
            | "Shards" >> beam.Create(shards(examples, PREDICTED_SPLITS), reshuffle=True)
            | "Predict" >> beam.ParDo(predict_shard)
        )
    records.remove_temporary(uri)  # of attempts that died


def predict_nothing(uri: str) -> None:
    """Write predictions without any, for a model that does not answer."""
    records.remove_folder(uri)
    with records.ShardWriter(Shard((), 0, 1).outputs(uri, PREDICTED_SPLITS)):
        pass


def version_model(version: str, model: AskedModel, code: str) -> AskedModel:
    """Return the model of a version, which may be the exported one itself.

    Args:
        version: Folder of the version.
        model: The exported model.
        code: Fingerprint of the source code, by which the stored answers of the version are used.
    """
    digest = _digest(version)
    if digest and digest == _digest(model.directory):
        return model
    stored = f"{version}/{manifest.PROVENANCE}/{ANSWERS_FOLDER}"
    by_this_code = digest.get("source") == code and Path(stored).is_dir()
    return AskedModel(version, stored if by_this_code else "")


def kept_answers(folder: str, directory: str, code: str) -> str:
    """Return the folder of the answers of a model that is kept across runs; "" for none.

    Args:
        folder: Folder of all such answers; "" keeps none.
        directory: Folder of the SavedModel. A model without a digest keeps none.
        code: Fingerprint of the source code.
    """
    digest = _digest(directory)
    if not folder or not digest:
        return ""
    key = hashlib.sha256(json.dumps([digest, code], sort_keys=True).encode()).hexdigest()
    return f"{folder}/{key[:16]}"


def keep(uri: str, kept: str) -> None:
    """Keep predictions in a folder that `kept_answers` returned, in the place of earlier ones."""
    target = Path(kept)
    beside = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # labels may be private
        shutil.copytree(uri, beside, copy_function=shutil.copyfile)
        shutil.rmtree(target, ignore_errors=True)
        move_folder(beside, target)
    except OSError as error:  # the next run asks the model again
        _log.warning("the answers of the model are not kept in %s: %s", target.parent, error)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _digest(directory: str) -> dict[str, object]:
    """Read the digest of a model; {} for one that other code has exported."""
    return json_object.read_or_empty(Path(directory) / manifest.MODEL_DIGEST)
