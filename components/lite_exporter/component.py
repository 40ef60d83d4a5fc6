"""LiteExporter: float16 and int8 files of the export, each blessed by itself.

A quantised network is another network. It is put to every validation image and must reach the
threshold, and what the model in float reached on the same images but for `max_loss`. What does not
is kept here, with the reason, and never pushed.
"""

import hashlib
import heapq
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

from imgpipe.components import records
from imgpipe.components.artifacts import BLESSED_LITE, LiteModels
from imgpipe.components.blessings import SLACK
from imgpipe.components.model_pusher import manifest
from imgpipe.components.predictor import prediction
from imgpipe.models import feature_names as names
from imgpipe.models import litert, preprocess, progress

REFUSED_LITE = "refused"
VERDICTS = "lite.json"
#: Images decoded at a time: 10 MB of pixels.
_IMAGES_AT_ONCE = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What became of one kind of export; accuracies are of the same validation images."""

    kind: str
    file: str
    blessed: bool
    why: str  # "" when it is blessed
    bytes: int = 0
    images: int = 0
    correct: int = 0
    accuracy: float | None = None
    model_accuracy: float | None = None  # of the model in float
    agreement: float | None = None  # share of images with the same answer as the model in float


@component
def LiteExporter(
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    predictions: InputArtifact[Examples],
    lite: OutputArtifact[LiteModels],
    kinds: Parameter[str],
    threshold: Parameter[float],
    max_loss: Parameter[float],
    code: Parameter[str],
) -> None:
    """Convert, judge, keep.

    Args:
      examples: kept images; train calibrates int8, validation judges.
      model: the Trainer's export.
      predictions: of the Predictor: the answers in float, through the served signature.
      lite: files below ``blessed/`` or ``refused/``, and ``lite.json``.
      kinds: JSON list of kinds, of `imgpipe.models.litert.FILES`.
      threshold: validation accuracy each must reach.
      max_loss: validation accuracy each may lose against the model in float.
      code: address of the code that converts and judges, for the cache and for `write`.
    """
    wanted = json.loads(kinds)
    chosen = smallest_hashes(examples.uri, litert.CALIBRATION_IMAGES)
    made = convert(path_utils.serving_model_path(model.uri), wanted, examples.uri, chosen)
    answers = model_answers(predictions.uri)
    verdicts = judge(made, examples.uri, answers, threshold, max_loss)
    recipe = {"code": code, "calibration": hashlib.sha256(b"".join(chosen)).hexdigest()}
    limits = {"threshold": threshold, "max_loss": max_loss, "calibration_images": len(chosen)}
    write(lite.uri, made, verdicts, recipe, limits)
    blessed = ",".join(verdict.kind for verdict in verdicts if verdict.blessed)
    lite.set_string_custom_property("blessed", blessed)


def smallest_hashes(uri: str, count: int) -> list[bytes]:
    """Content hashes of the training images to calibrate on: a sample that is always the same."""
    dataset = tf.data.TFRecordDataset(records.shard_files(uri, names.TRAIN)).map(
        lambda record: tf.io.parse_single_example(record, _SPEC)[names.IMAGE_HASH],
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return heapq.nsmallest(count, dataset.as_numpy_iterator())


_SPEC = {
    names.IMAGE_HASH: tf.io.FixedLenFeature([], tf.string),
    names.IMAGE_BYTES: tf.io.FixedLenFeature([], tf.string),
    names.LABEL_INDEX: tf.io.FixedLenFeature([], tf.int64, -1),
}


def batches(
    uri: str, split: str, image_size: int, only: Sequence[bytes] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of a split: image_hash, label_index and pixels uint8 [n, S, S, 3].

    Args:
      uri: of Examples.
      split: which.
      image_size: S.
      only: hashes of the images wanted, None for all.
    """
    dataset = tf.data.TFRecordDataset(records.shard_files(uri, split))
    dataset = dataset.map(lambda record: tf.io.parse_single_example(record, _SPEC))
    if only is not None:
        wanted = tf.constant(list(only), tf.string, [len(only)])
        dataset = dataset.filter(lambda one: tf.reduce_any(one[names.IMAGE_HASH] == wanted))

    def decoded(one: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        pixels = preprocess.whole_pixels(one[names.IMAGE_BYTES], image_size)
        kept = {name: one[name] for name in (names.IMAGE_HASH, names.LABEL_INDEX)}
        return {**kept, "pixels": pixels}

    dataset = dataset.map(decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    yield from dataset.batch(_IMAGES_AT_ONCE).prefetch(1).as_numpy_iterator()


def convert(
    directory: str, kinds: Sequence[str], examples_uri: str, calibration: Sequence[bytes]
) -> dict[str, bytes | str]:
    """Content of the file by kind, or the sentence that says why there is none."""
    made: dict[str, bytes | str] = {}
    network: litert.Network | None = None
    for kind in kinds:
        try:
            network = network or litert.load_network(directory)
            images: list[np.ndarray] = []
            if kind == litert.INT8:
                found = batches(examples_uri, names.TRAIN, network.image_size, calibration)
                images = [pixels for batch in found for pixels in batch["pixels"]]
            made[kind] = litert.convert(network, kind, images)
        except Exception as error:  # an op that the converter does not know is a finding
            _log.exception("the %s export could not be converted", kind)
            first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            made[kind] = f"it could not be converted: {first}"
    return made


def model_answers(predictions_uri: str) -> dict[bytes, int]:
    """Label index that the model in float gives each validation image, by content hash."""
    return {
        records.raw(example, names.IMAGE_HASH): prediction.read(example).predicted
        for example in records.iterate(predictions_uri, names.VALIDATION)
    }


def judge(
    made: Mapping[str, bytes | str],
    examples_uri: str,
    answers: Mapping[bytes, int],
    threshold: float,
    max_loss: float,
) -> list[Verdict]:
    """A verdict for each kind, from all labelled validation images.

    Args:
      made: of `convert`.
      examples_uri: kept images.
      answers: of `model_answers`.
      threshold: accuracy to reach.
      max_loss: accuracy that may be lost against the model in float.
    """
    with ExitStack() as stack:
        loaded = {
            kind: stack.enter_context(litert.LiteModel(content))
            for kind, content in made.items()
            if isinstance(content, bytes)
        }
        table = _answers(loaded, examples_uri, answers)
        verdicts = []
        for kind, content in made.items():
            if isinstance(content, str):
                verdicts.append(Verdict(kind, litert.FILES[kind], False, content))
            else:
                reasons = _shape(kind, loaded[kind])
                counted = _counted(kind, len(content), table, threshold, max_loss, reasons)
                verdicts.append(counted)
    return verdicts


def _answers(
    loaded: Mapping[str, litert.LiteModel], uri: str, answers: Mapping[bytes, int]
) -> dict[str, np.ndarray]:
    """Label indices [n] of all labelled images: the right ones, the float model's, each kind's."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("label", "model", *loaded)}
    sizes = {one.image_size for one in loaded.values()}
    for batch in batches(uri, names.VALIDATION, sizes.pop()) if sizes else ():
        keep = batch[names.LABEL_INDEX] >= 0
        columns["label"].append(batch[names.LABEL_INDEX][keep])
        columns["model"].append(
            np.array([answers.get(bytes(key), -1) for key in batch[names.IMAGE_HASH][keep]])
        )
        for kind, one in loaded.items():
            columns[kind].append(one.probabilities(batch["pixels"][keep]).argmax(axis=1))
        progress.advance(int(keep.sum()), "images")
    empty = np.empty(0, np.int64)
    return {name: np.concatenate([empty, *parts]) for name, parts in columns.items()}


def _shape(kind: str, model: litert.LiteModel) -> list[str]:
    """What is wrong with a file before it has answered anything."""
    reasons = []
    if not model.takes_pixels():
        reasons.append("its input is not pixels as they are (uint8, scale 1, zero 0)")
    floats = model.float_tensors() if kind == litert.INT8 else []
    if floats:
        reasons.append(f"{len(floats)} tensors are not whole numbers, such as {floats[0]}")
    return reasons


def _counted(
    kind: str,
    size: int,
    table: Mapping[str, np.ndarray],
    threshold: float,
    max_loss: float,
    reasons: list[str],
) -> Verdict:
    images = len(table["label"])
    if not images:
        why = "; ".join([*reasons, "there is no validation image to judge it by"])
        return Verdict(kind, litert.FILES[kind], False, why, size)
    correct = int((table[kind] == table["label"]).sum())
    float_correct = int((table["model"] == table["label"]).sum())
    share, float_share = correct / images, float_correct / images
    if share < threshold - SLACK:
        reasons.append(f"its accuracy {share:.3f} is under {threshold:g}")
    if share < float_share - max_loss - SLACK:
        reasons.append(
            f"it loses {100 * (float_share - share):.1f} points of the model's {float_share:.3f} "
            f"({float_correct - correct} of {images} images), allowed are {100 * max_loss:g}"
        )
    return Verdict(
        kind=kind,
        file=litert.FILES[kind],
        blessed=not reasons,
        why="; ".join(reasons),
        bytes=size,
        images=images,
        correct=correct,
        accuracy=share,
        model_accuracy=float_share,
        agreement=float((table[kind] == table["model"]).mean()),
    )


def write(
    uri: str,
    made: Mapping[str, bytes | str],
    verdicts: Sequence[Verdict],
    recipe: Mapping[str, Any],
    limits: Mapping[str, Any],
) -> None:
    """Write files, verdicts, and beside blessed files what a pushed version keeps of them.

    The bytes of a conversion differ where nothing that matters does (tensors are named after the
    training run's layers), so the pushed version carries the address of how its files were made:
    `imgpipe.components.model_pusher.manifest` tells by it whether a version is new.

    Args:
      uri: of the output.
      made: of `convert`.
      verdicts: of `judge`.
      recipe: what else than the model decides about the files.
      limits: what they were judged by.
    """
    found = {**limits, "exports": [asdict(verdict) for verdict in verdicts]}
    records.write_json(f"{uri}/{VERDICTS}", found)
    for verdict in verdicts:
        content = made[verdict.kind]
        if isinstance(content, bytes):
            folder = f"{uri}/{BLESSED_LITE if verdict.blessed else REFUSED_LITE}"
            tf.io.gfile.makedirs(folder)
            with tf.io.gfile.GFile(f"{folder}/{verdict.file}", "wb") as file:
                file.write(content)
    kinds = sorted(verdict.kind for verdict in verdicts if verdict.blessed)
    if kinds:
        records.write_json(f"{uri}/{BLESSED_LITE}/assets.extra/{VERDICTS}", found)
        address = {**recipe, "kinds": kinds}
        records.write_json(f"{uri}/{BLESSED_LITE}/{manifest.LITE_DIGEST}", address)
