"""LiteExporter: which files are blessed, which are refused and why, and what can be published."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from imgpipe.components.lite_exporter import component
from imgpipe.components.lite_exporter.component import LiteResult
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models.export import litert
from tests.images import encoded
from tests.models import small_export

_COUNTS = {"train": 24, "validation": 30, "test": 3}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> str:
    """Return the folder of a small SavedModel."""
    return str(small_export.save(tmp_path_factory.mktemp("export")))


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> str:
    """Return the URI of Examples of 20 x 20 pixels, labelled by their colour.

    The last image of each split has no label.
    """
    uri = str(tmp_path_factory.mktemp("examples"))
    paths = {split: records.shard_path(uri, split, 0, 1) for split in names.SPLITS}
    with records.ShardWriter(paths) as writer:
        for number, (split, count) in enumerate(_COUNTS.items()):
            for pixels, label in zip(*small_export.labelled_images(count, 20, number), strict=True):
                writer.write(split, _example(pixels, int(label)))
            writer.write(split, _example(small_export.labelled_images(1, 20, 99)[0][0], -1))
    return uri


def _example(pixels: np.ndarray, label: int):
    """Return the Example of an image, uint8 [height, width, 3], and its label."""
    content = encoded(pixels)
    digest = hashlib.sha256(content).hexdigest()
    return records.make(
        {
            names.IMAGE_BYTES: content,
            names.IMAGE_HASH: digest,
            names.LABEL_INDEX: label,
        }
    )


@pytest.fixture(scope="module")
def predictions(tmp_path_factory, directory, examples) -> str:
    """Return the URI of predictions as Predictor writes them.

    The probabilities come from the SavedModel's own signature.
    """
    import tensorflow as tf

    serve = tf.saved_model.load(directory).signatures["serving_pixels"]
    uri = str(tmp_path_factory.mktemp("predictions"))
    with records.ShardWriter({s: records.shard_path(uri, s, 0, 1) for s in names.SPLITS}) as writer:
        for split in names.SPLITS:
            for example in records.iterate(examples, split):
                pixels = tf.io.decode_png(records.raw(example, names.IMAGE_BYTES))[None]
                row = serve(pixels)["probabilities"][0].numpy()
                values = {names.IMAGE_HASH: records.raw(example, names.IMAGE_HASH)}
                writer.write(split, records.make({**values, names.PROBABILITIES: row.tolist()}))
    return uri


@pytest.fixture(scope="module")
def made(directory, examples) -> dict[str, bytes | str]:
    """Return the converted files by kind: {"float16": bytes, "int8": bytes}."""
    chosen = component.smallest_hashes(examples, 20)
    return component.convert(directory, ["float16", "int8"], examples, chosen)


def _evaluate(made, examples, predictions, threshold=0.9, max_loss=0.005) -> dict[str, LiteResult]:
    """Evaluate the converted files and return the results by kind."""
    answers = component.model_answers(predictions)
    found = component.evaluate(made, examples, answers, threshold, max_loss)
    return {result.kind: result for result in found}


def test_the_calibration_images_are_the_training_images_with_the_smallest_hashes(examples):
    chosen = component.smallest_hashes(examples, 10)
    train = {records.raw(e, names.IMAGE_HASH) for e in records.iterate(examples, "train")}
    assert chosen == sorted(train)[:10]
    batches = list(component.batches(examples, "train", 16, chosen))
    assert {key for batch in batches for key in batch[names.IMAGE_HASH]} == set(chosen)
    assert batches[0]["pixels"].shape == (10, 16, 16, 3)
    assert batches[0]["pixels"].dtype == np.uint8


def test_good_files_are_blessed_after_evaluation_on_all_labelled_validation_images(
    made, examples, predictions
):
    for kind, result in _evaluate(made, examples, predictions).items():
        assert result.blessed, result.why
        assert result.why == ""
        assert result.images == _COUNTS["validation"]
        assert result.accuracy == result.model_accuracy == result.agreement == 1.0
        assert result.bytes == len(made[kind])
        assert result.file == litert.FILES[kind]


def test_a_file_under_the_threshold_is_refused(made, examples, predictions):
    result = _evaluate(made, examples, predictions, threshold=1.01)["int8"]
    assert not result.blessed
    assert result.why == "its accuracy 1.000 is below 1.01"


def _scrambled(directory, examples) -> bytes:
    """Return an int8 file of the network with red and green swapped."""
    network = litert.load_network(directory)
    swapped = litert.Network(network.graph, network.pixels, network.probabilities, 16)
    for node in swapped.graph.node:
        if node.op != "Const":
            continue
        value = node.attr["value"].tensor
        if [dim.size for dim in value.tensor_shape.dim] == [3, 3]:
            weights = np.frombuffer(value.tensor_content, np.float32).reshape(3, 3)
            value.tensor_content = weights[[0, 2, 1]].tobytes()
    images = [p for b in component.batches(examples, "train", 16) for p in b["pixels"]]
    return litert.convert(swapped, "int8", images)


def test_a_file_that_loses_too_much_accuracy_is_refused(directory, made, examples, predictions):
    bad = {"float16": made["float16"], "int8": _scrambled(directory, examples)}
    results = _evaluate(bad, examples, predictions, threshold=0.0)
    assert results["float16"].blessed, "each is evaluated by itself"
    assert not results["int8"].blessed
    assert results["int8"].why == (
        "it loses 66.7 points of the model's 1.000 (20 of 30 images); at most 0.5 are allowed"
    )
    assert results["int8"].agreement == pytest.approx(1 / 3)


def test_a_file_within_the_allowed_loss_is_blessed(directory, examples, predictions):
    bad = {"int8": _scrambled(directory, examples)}
    assert _evaluate(bad, examples, predictions, threshold=0.3, max_loss=0.67)["int8"].blessed


def test_a_float_file_is_refused_as_int8(made, examples, predictions):
    result = _evaluate({"int8": made["float16"]}, examples, predictions)["int8"]
    assert not result.blessed
    assert "tensors are not integers, such as" in result.why


def test_a_model_that_cannot_be_converted_is_refused_with_the_cause(
    examples, predictions, tmp_path
):
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([1])])
    tf.saved_model.save(module, str(tmp_path), {"other": module.call})
    made = component.convert(str(tmp_path), ["int8"], examples, [])
    result = _evaluate(made, examples, predictions)["int8"]
    assert not result.blessed
    assert result.why.startswith("it could not be converted: LiteRT export: expected a signature")
    assert result.accuracy is None


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOSPC, "full")])
def test_a_lack_of_memory_or_disk_is_no_result(
    directory, examples, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def lacking(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(litert, "convert", lacking)
    with pytest.raises(type(error)):
        component.convert(directory, ["float16"], examples, [])


def test_without_a_validation_image_nothing_is_blessed(made, examples, predictions, tmp_path):
    empty = {split: records.shard_path(str(tmp_path), split, 0, 1) for split in names.SPLITS}
    with records.ShardWriter(empty):
        pass
    for result in _evaluate(made, str(tmp_path), predictions, threshold=0.0).values():
        assert not result.blessed
        assert "no validation image" in result.why


def test_only_blessed_files_are_in_the_folder_that_the_pusher_reads(tmp_path: Path):
    results = [
        LiteResult("float16", "model_float16.tflite", True, "", 3),
        LiteResult("int8", "model.tflite", False, "it loses 2 points", 4),
    ]
    made = {"float16": b"one", "int8": b"four"}
    recipe = {"code": "c", "calibration": "abc"}
    component.write(str(tmp_path), made, results, recipe, {"threshold": 0.9})
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        "blessed/assets.extra/lite.json",
        "blessed/assets.extra/lite_digest.json",
        "blessed/model_float16.tflite",
        "lite.json",
        "refused/model.tflite",
    ]
    found = json.loads((tmp_path / "lite.json").read_text())
    assert [export["blessed"] for export in found["exports"]] == [True, False]
    assert found["exports"][1]["why"] == "it loses 2 points"
    address = json.loads((tmp_path / "blessed/assets.extra/lite_digest.json").read_text())
    assert address == {**recipe, "kinds": ["float16"]}


def test_without_blessed_files_only_the_verdicts_are_written(tmp_path: Path):
    results = [LiteResult("int8", "model.tflite", False, "it could not be converted: no")]
    component.write(str(tmp_path), {"int8": "it could not"}, results, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["lite.json"]
