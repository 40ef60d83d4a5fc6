"""LiteExporter: converts the exported model to LiteRT files, each with a blessing of its own.

Quantisation changes a network, so each file is evaluated on every validation image. Its accuracy
must reach the threshold, and may be at most `max_loss` below that of the float model on the same
images. A file that fails is kept in the artifact with the reason, and is never published.
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
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing
from tfx.utils import path_utils

from imgpipe.components.artifacts import BLESSED_LITE, LiteModels
from imgpipe.components.blessings import SLACK
from imgpipe.components.cross_validator.outcome import folds_decide
from imgpipe.components.predictor import prediction
from imgpipe.components.storage import manifest, records
from imgpipe.models import feature_names as names
from imgpipe.models import preprocess, progress, shortages
from imgpipe.models.dataset_tuning import untuned
from imgpipe.models.export import litert

REFUSED_LITE = "refused"
RESULTS = "lite.json"
#: Images decoded at a time, which are 10 MB of pixels.
_IMAGES_AT_ONCE = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiteResult:
    """The result of one kind of export; all accuracies are on the same validation images."""

    kind: str
    file: str
    blessed: bool
    why: str  # reasons against the file, "" when it is blessed
    bytes: int = 0
    images: int = 0
    correct: int = 0
    accuracy: float | None = None
    model_accuracy: float | None = None  # accuracy of the float model
    agreement: float | None = None  # share of images on which the file and the float model agree


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
    cross_validation: InputArtifact[ModelBlessing] = None,
) -> None:
    """Convert the model to each kind of file and evaluate the files.

    Args:
        examples: Kept images; train is used to calibrate int8, validation to evaluate.
        model: Exported model of ImageTrainer.
        predictions: Answers of the float model through the served signature, of Predictor.
        lite: Output: files in ``blessed/`` or ``refused/``, and ``lite.json``.
        kinds: JSON list of kinds, which are keys of `imgpipe.models.export.litert.FILES`.
        threshold: Validation accuracy that each file must reach, 0 to 1.
        max_loss: Validation accuracy that each file may lose against the float model, 0 to 1.
        code: Fingerprint of the code that converts and evaluates. It is part of TFX's cache key and
            of the files' fingerprint, see `write`.
        cross_validation: Blessing of CrossValidator. Where its folds decide, `threshold` does not
            apply.
    """
    if cross_validation is not None and folds_decide(cross_validation.uri):
        threshold = 0.0
    wanted = json.loads(kinds)
    chosen = smallest_hashes(examples.uri, litert.CALIBRATION_IMAGES)
    made = convert(path_utils.serving_model_path(model.uri), wanted, examples.uri, chosen)
    answers = model_answers(predictions.uri)
    results = evaluate(made, examples.uri, answers, threshold, max_loss)
    recipe = {"code": code, "calibration": hashlib.sha256(b"".join(chosen)).hexdigest()}
    limits = {"threshold": threshold, "max_loss": max_loss, "calibration_images": len(chosen)}
    write(lite.uri, made, results, recipe, limits)
    blessed = ",".join(result.kind for result in results if result.blessed)
    lite.set_string_custom_property("blessed", blessed)


def smallest_hashes(uri: str, count: int) -> list[bytes]:
    """Choose training images to calibrate on, the same ones for the same data.

    Args:
        uri: URI of the Examples.
        count: Number of images.

    Returns:
        The `count` smallest content hashes, in sorted order.
    """
    # Hashes are evenly distributed, so the smallest ones belong to a random sample of the images.
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
    """Iterate over decoded images of a split.

    Args:
        uri: URI of the Examples.
        split: Name of the split.
        image_size: Width and height S of the decoded images, in pixels.
        only: Content hashes of the images to return, or None for all images.

    Yields:
        Batches with ``image_hash`` [n], ``label_index`` [n] and ``pixels``, uint8 [n, S, S, 3].
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

    # In order, so that the calibration of int8 is the same in every run.
    dataset = dataset.map(decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    yield from untuned(dataset.batch(_IMAGES_AT_ONCE).prefetch(1)).as_numpy_iterator()


def convert(
    directory: str, kinds: Sequence[str], examples_uri: str, calibration: Sequence[bytes]
) -> dict[str, bytes | str]:
    """Convert a SavedModel to LiteRT.

    Args:
        directory: SavedModel directory.
        kinds: Kinds of file to create.
        examples_uri: URI of the Examples that hold the calibration images.
        calibration: Content hashes of the training images that calibrate int8.

    Returns:
        The content of the file by kind, or a sentence that says why the conversion failed.

    Raises:
        Exception: Memory or disk space ran out; see `imgpipe.models.shortages`.
    """
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
        except Exception as error:  # a failed conversion is a result, not a failure of the run
            if shortages.lacking(error):  # which is no property of the model and must not be cached
                raise
            _log.exception("the %s export could not be converted", kind)
            first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            made[kind] = f"it could not be converted: {first}"
    return made


def model_answers(predictions_uri: str) -> dict[bytes, int]:
    """Label indices that the float model predicts for the validation images, by content hash."""
    return {
        records.raw(example, names.IMAGE_HASH): prediction.read(example).predicted
        for example in records.iterate(predictions_uri, names.VALIDATION)
    }


def evaluate(
    made: Mapping[str, bytes | str],
    examples_uri: str,
    answers: Mapping[bytes, int],
    threshold: float,
    max_loss: float,
) -> list[LiteResult]:
    """Evaluate each converted file on all labelled validation images.

    Args:
        made: File contents or errors by kind, as `convert` returns them.
        examples_uri: URI of the kept images.
        answers: Predictions of the float model, as `model_answers` returns them.
        threshold: Accuracy that each file must reach, 0 to 1.
        max_loss: Accuracy that each file may lose against the float model, 0 to 1.

    Returns:
        One result for each kind, in the order of `made`.
    """
    with ExitStack() as stack:
        loaded = {
            kind: stack.enter_context(litert.LiteModel(content))
            for kind, content in made.items()
            if isinstance(content, bytes)
        }
        table = _predictions(loaded, examples_uri, answers)
        reasons = {kind: _format_problems(kind, one) for kind, one in loaded.items()}
    return [
        LiteResult(kind, litert.FILES[kind], False, content)
        if isinstance(content, str)
        else _result(kind, len(content), table, threshold, max_loss, reasons[kind])
        for kind, content in made.items()
    ]


def _predictions(
    loaded: Mapping[str, litert.LiteModel], uri: str, answers: Mapping[bytes, int]
) -> dict[str, np.ndarray]:
    """Label indices [n] of all labelled images, as columns ``label``, ``model`` and each kind."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("label", "model", *loaded)}
    sizes = {one.image_size for one in loaded.values()}  # one size: all are made from one network
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


def _format_problems(kind: str, model: litert.LiteModel) -> list[str]:
    reasons = []
    if not model.takes_pixels():
        reasons.append("its input is not unscaled pixels (uint8 with scale 1 and zero point 0)")
    floats = model.float_tensors() if kind == litert.INT8 else []
    if floats:
        reasons.append(f"{len(floats)} tensors are not integers, such as {floats[0]}")
    return reasons


def _result(
    kind: str,
    size: int,
    table: Mapping[str, np.ndarray],
    threshold: float,
    max_loss: float,
    reasons: list[str],
) -> LiteResult:
    images = len(table["label"])
    if not images:
        why = "; ".join([*reasons, "there is no validation image to evaluate it on"])
        return LiteResult(kind, litert.FILES[kind], False, why, size)
    correct = int((table[kind] == table["label"]).sum())
    float_correct = int((table["model"] == table["label"]).sum())
    share, float_share = correct / images, float_correct / images
    if share < threshold - SLACK:
        reasons.append(f"its accuracy {share:.3f} is below {threshold:g}")
    if share < float_share - max_loss - SLACK:
        reasons.append(
            f"it loses {100 * (float_share - share):.1f} points of the model's {float_share:.3f} "
            f"({float_correct - correct} of {images} images); at most {100 * max_loss:g} are "
            "allowed"
        )
    return LiteResult(
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
    results: Sequence[LiteResult],
    recipe: Mapping[str, Any],
    limits: Mapping[str, Any],
) -> None:
    """Write the files and the results, and a fingerprint of the blessed files.

    Two conversions of the same model can differ in irrelevant bytes, because tensors are named
    after the layers of the training run. A published version therefore carries a fingerprint of how
    its files were made, by which `imgpipe.components.storage.manifest` recognises a version
    that has been published before.

    Args:
        uri: URI of the output artifact.
        made: File contents or errors by kind, as `convert` returns them.
        results: Results as `evaluate` returns them.
        recipe: What determines the files apart from the model, for the fingerprint.
        limits: Limits that the files were evaluated against.
    """
    found = {**limits, "exports": [asdict(result) for result in results]}
    records.write_json(f"{uri}/{RESULTS}", found)
    for result in results:
        content = made[result.kind]
        if isinstance(content, bytes):
            folder = f"{uri}/{BLESSED_LITE if result.blessed else REFUSED_LITE}"
            tf.io.gfile.makedirs(folder)
            with tf.io.gfile.GFile(f"{folder}/{result.file}", "wb") as file:
                file.write(content)
    kinds = sorted(result.kind for result in results if result.blessed)
    if kinds:
        records.write_json(f"{uri}/{BLESSED_LITE}/assets.extra/{RESULTS}", found)
        fingerprint = {**recipe, "kinds": kinds}
        records.write_json(f"{uri}/{BLESSED_LITE}/{manifest.LITE_DIGEST}", fingerprint)
