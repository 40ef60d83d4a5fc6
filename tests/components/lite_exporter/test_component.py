"""LiteExporter: what is blessed, what is refused and why, and what a pushed version gets of it."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgpipe.components import records
from imgpipe.components.lite_exporter import component
from imgpipe.components.lite_exporter.component import Verdict
from imgpipe.models import feature_names as names
from imgpipe.models import litert
from tests.models import small_export

_COUNTS = {"train": 24, "validation": 30, "test": 3}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> str:
    return str(small_export.save(tmp_path_factory.mktemp("export")))


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> str:
    """Pictures of 20 px, labelled by their colour; the last of each split has no label."""
    uri = str(tmp_path_factory.mktemp("examples"))
    paths = {split: records.shard_path(uri, split, 0, 1) for split in names.SPLITS}
    with records.ShardWriter(paths) as writer:
        for number, (split, count) in enumerate(_COUNTS.items()):
            for pixels, label in zip(*small_export.pictures(count, 20, number), strict=True):
                writer.write(split, _example(pixels, int(label)))
            writer.write(split, _example(small_export.pictures(1, 20, 99)[0][0], -1))
    return uri


def _example(pixels: np.ndarray, label: int):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    return records.make(
        {
            names.IMAGE_BYTES: file.getvalue(),
            names.IMAGE_HASH: digest,
            names.LABEL_INDEX: label,
        }
    )


@pytest.fixture(scope="module")
def predictions(tmp_path_factory, directory, examples) -> str:
    """As the Predictor writes them, by the SavedModel's own signature."""
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
    chosen = component.smallest_hashes(examples, 20)
    return component.convert(directory, ["float16", "int8"], examples, chosen)


def _judge(made, examples, predictions, threshold=0.9, max_loss=0.005) -> dict[str, Verdict]:
    answers = component.model_answers(predictions)
    found = component.judge(made, examples, answers, threshold, max_loss)
    return {verdict.kind: verdict for verdict in found}


def test_the_calibration_images_are_training_images_and_always_the_same(examples):
    chosen = component.smallest_hashes(examples, 10)
    train = {records.raw(e, names.IMAGE_HASH) for e in records.iterate(examples, "train")}
    assert chosen == sorted(train)[:10]
    batches = list(component.batches(examples, "train", 16, chosen))
    assert {key for batch in batches for key in batch[names.IMAGE_HASH]} == set(chosen)
    assert batches[0]["pixels"].shape == (10, 16, 16, 3)
    assert batches[0]["pixels"].dtype == np.uint8


def test_good_files_are_blessed_by_every_labelled_validation_image(made, examples, predictions):
    for kind, verdict in _judge(made, examples, predictions).items():
        assert verdict.blessed, verdict.why
        assert verdict.why == ""
        assert verdict.images == _COUNTS["validation"]
        assert verdict.accuracy == verdict.model_accuracy == verdict.agreement == 1.0
        assert verdict.bytes == len(made[kind])
        assert verdict.file == litert.FILES[kind]


def test_a_file_under_the_threshold_is_refused(made, examples, predictions):
    verdict = _judge(made, examples, predictions, threshold=1.01)["int8"]
    assert not verdict.blessed
    assert verdict.why == "its accuracy 1.000 is under 1.01"


def _scrambled(directory, examples) -> bytes:
    """A file of the network with red and green changed over."""
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


def test_a_file_that_lost_what_the_model_knows_is_refused(directory, made, examples, predictions):
    bad = {"float16": made["float16"], "int8": _scrambled(directory, examples)}
    verdicts = _judge(bad, examples, predictions, threshold=0.0)
    assert verdicts["float16"].blessed, "each is judged by itself"
    assert not verdicts["int8"].blessed
    assert verdicts["int8"].why == (
        "it loses 66.7 points of the model's 1.000 (20 of 30 images), allowed are 0.5"
    )
    assert verdicts["int8"].agreement == pytest.approx(1 / 3)


def test_an_allowed_loss_is_allowed(directory, examples, predictions):
    bad = {"int8": _scrambled(directory, examples)}
    assert _judge(bad, examples, predictions, threshold=0.3, max_loss=0.67)["int8"].blessed


def test_a_float_file_is_no_int8(made, examples, predictions):
    verdict = _judge({"int8": made["float16"]}, examples, predictions)["int8"]
    assert not verdict.blessed
    assert "tensors are not whole numbers, such as" in verdict.why


def test_what_cannot_be_converted_is_a_finding(examples, predictions, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([1])])
    tf.saved_model.save(module, str(tmp_path), {"other": module.call})
    made = component.convert(str(tmp_path), ["int8"], examples, [])
    verdict = _judge(made, examples, predictions)["int8"]
    assert not verdict.blessed
    assert verdict.why.startswith("it could not be converted: LiteRT export: expected a signature")
    assert verdict.accuracy is None


def test_without_a_validation_image_nothing_is_blessed(made, examples, predictions, tmp_path):
    empty = {split: records.shard_path(str(tmp_path), split, 0, 1) for split in names.SPLITS}
    with records.ShardWriter(empty):
        pass
    for verdict in _judge(made, str(tmp_path), predictions, threshold=0.0).values():
        assert not verdict.blessed
        assert "no validation image" in verdict.why


def test_only_blessed_files_are_where_the_pusher_looks(tmp_path: Path):
    verdicts = [
        Verdict("float16", "model_float16.tflite", True, "", 3),
        Verdict("int8", "model.tflite", False, "it loses 2 points", 4),
    ]
    made = {"float16": b"one", "int8": b"four"}
    recipe = {"code": "c", "calibration": "abc"}
    component.write(str(tmp_path), made, verdicts, recipe, {"threshold": 0.9})
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


def test_with_nothing_blessed_there_is_nothing_to_push(tmp_path: Path):
    verdicts = [Verdict("int8", "model.tflite", False, "it could not be converted: no")]
    component.write(str(tmp_path), {"int8": "it could not"}, verdicts, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["lite.json"]
