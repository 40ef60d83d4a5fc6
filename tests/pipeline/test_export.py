"""Tests of `imgpipe export`, whose files must answer as the published version does."""

import dataclasses
import functools
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import imgpipe
from imgpipe.components.common.storage import manifest, records
from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.described_files import version_damage
from imgpipe.models.names import OUT_OF_FOLD_FILE
from imgpipe.pipeline.output.lookup import Model
from imgpipe.pipeline.published import exports
from tests.command import ran
from tests.images import encoded, noise
from tests.pipeline import past_runs, small_version

export = functools.partial(ran, "export")


@pytest.fixture(scope="module")
def exported(out, tmp_path_factory):
    """Return a function that exports the version as a kind, once, and returns the description."""

    @functools.cache
    def make(kind):
        return imgpipe.export(kind, out, tmp_path_factory.mktemp(kind) / f"model.{kind}").summary

    return make


@pytest.mark.parametrize("kind", ["onnx", "keras", "tflite"])
def test_an_exported_file_answers_as_the_version_does(exported, kind):
    described = exported(kind)
    file = Path(described["file"])
    assert file.name == f"model.{kind}" and described["bytes"] == file.stat().st_size
    assert (described["kind"], described["version"]) == (kind, 1)
    assert described["classes"] == list(small_version.CLASSES)
    parity = described["parity"]
    assert (parity["images"], parity["origin"]) == (16, "noise")
    assert parity["largest_difference"] <= exports.KINDS[kind].tolerance
    assert parity["agreement"] > 0.9
    assert parity["accuracy"] is None, "the images of its run do not exist"


def test_the_onnx_file_has_its_classes_and_runs_in_onnxruntime(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported("onnx")["file"])
    [given], [returned] = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("pixels", "tensor(uint8)", [24, 24, 3])
    assert (returned.name, returned.type) == ("probabilities", "tensor(float)")
    stored = session.get_modelmeta().custom_metadata_map["classes"]
    assert json.loads(stored) == list(small_version.CLASSES)
    pixels = np.zeros((3, 24, 24, 3), np.uint8)
    [answers] = session.run(None, {"pixels": pixels})
    assert answers.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_a_file_of_labels_beside_the_lite_file_names_its_classes(exported):
    described = exported("tflite")
    labels = Path(described["labels"])
    assert labels == Path(described["file"]).with_name("model.labels.txt")
    assert labels.read_text("utf-8").splitlines() == list(small_version.CLASSES)
    assert exported("keras")["labels"] is None


def test_the_keras_file_lists_its_classes(exported):
    with zipfile.ZipFile(exported("keras")["file"]) as archive:
        configuration = json.loads(archive.read("config.json"))
    assert configuration["classes"] == list(small_version.CLASSES)


@pytest.mark.parametrize("to", ["copy", "copy/7"])
def test_a_copy_to_pass_on_answers_and_holds_no_image(out, tmp_path, to):
    described = imgpipe.export("saved_model", out, tmp_path / to).summary
    folder = tmp_path / "copy" / ("7" if "/" in to else "1")
    assert (described["file"], described["parity"]) == (str(folder), None)
    assert described["classes"] == list(small_version.CLASSES)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"saved_model.pb", "assets/vocabulary.txt", manifest.MANIFEST} <= names
    assert not [name for name in names if "warmup" in name or name.startswith("provenance/")]
    listed = json.loads((folder / manifest.MANIFEST).read_text())["files"]
    assert OUT_OF_FOLD_FILE not in names | listed.keys(), "it tells of the images"
    assert version_damage(folder, "all") == ""
    image = encoded(noise(1, (32, 24)))
    with imgpipe.load(out) as model, imgpipe.load(folder) as copy:
        [expected] = model.predict([image])
        [answer] = copy.predict([image])
    assert answer.top == expected.top
    with pytest.raises(ConfigError, match=r"exists already\. Name another folder"):
        export("saved_model", out, "--to", tmp_path / to)
    with pytest.raises(ResourceError, match="which does not exist"):
        export("saved_model", out, "--to", tmp_path / "gone" / "copy")


def test_an_export_with_other_answers_is_refused(out):
    model = Model(out / "model" / "1")
    right = exports.KINDS["keras"]

    def swapped(content):
        return lambda pixels: right.open(content)(pixels)[:, ::-1]

    with pytest.raises(
        exports.NotEqual, match=r"does not answer as .* does: on 16 images"
    ) as error:
        exports.export(dataclasses.replace(right, open=swapped), model, 0.005)
    assert error.value.exit_code == 3


def test_an_export_that_its_own_library_refuses_is_refused(out):
    cut = dataclasses.replace(exports.KINDS["keras"], make=lambda version: b"PK no archive")
    with pytest.raises(exports.NotEqual, match="its own library cannot open it") as error:
        exports.export(cut, Model(out / "model" / "1"), 0.005)
    assert error.value.exit_code == 3


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Return an output folder whose run left images, labelled as its version classifies them."""
    out = tmp_path_factory.mktemp("judged")
    version, uri = small_version.push(out), out / "examples"
    contents = [encoded(noise(seed, (32, 24))) for seed in range(40)]
    with imgpipe.load(out) as model:
        labels = [answer.label for answer in model.predict(contents)]
    paths = {split: records.shard_path(str(uri), split, 0, 1) for split in names.SPLITS}
    with records.ShardWriter(paths) as writer:
        for number, (content, label) in enumerate(zip(contents, labels, strict=True)):
            digest = hashlib.sha256(content).hexdigest()
            values = {names.IMAGE_BYTES: content, names.IMAGE_HASH: digest, names.LABEL: label}
            writer.write((names.TRAIN, names.VALIDATION)[number % 2], records.make(values))
    kept = {"ImageFilter": {"examples": str(uri)}}
    past_runs.leave(out, "20260101-000000", version=1, artifacts=kept)
    return version


def test_a_lite_file_is_judged_on_the_validation_images(judged, tmp_path):
    file = tmp_path / "model.tflite"
    found = imgpipe.export("tflite", judged, file, max_loss=0.1).summary["parity"]
    assert (found["images"], found["origin"], found["model_accuracy"]) == (20, "validation", 1.0)
    assert found["accuracy"] == found["agreement"] >= 0.9 and not found["learned"]


@pytest.mark.parametrize("tested", [False, True])
def test_a_model_that_has_learned_from_validation_is_judged_on_test(judged, tmp_path, tested):
    run = Model(judged).run
    examples = Path(run.artifact("ImageFilter", "examples"))
    learned = Model(judged).folder / OUT_OF_FOLD_FILE
    shard = Path(records.shard_path(str(examples), names.TEST, 0, 1))
    empty = shard.read_bytes()
    if tested:
        validation = Path(records.shard_path(str(examples), names.VALIDATION, 0, 1))
        shard.write_bytes(validation.read_bytes())
    learned.write_bytes(b"answers of the folds")
    try:
        said = export("tflite", judged, "--to", tmp_path / "x.tflite", "--max-loss", 0.1).stdout
    finally:
        learned.unlink()
        shard.write_bytes(empty)
    split = names.TEST if tested else names.VALIDATION
    assert f"judged   the accuracy on 20 {split} images is" in said
    assert ("the model has learned from these images" in said) is not tested


def test_a_lite_file_that_loses_too_much_is_refused(judged, tmp_path):
    """The file of another network stands for one whose rounding changes the answers."""
    other = Model(small_version.push(tmp_path, seed=5)).folder
    right = exports.KINDS["tflite"]
    worse = dataclasses.replace(right, tolerance=1.0, make=lambda _: right.make(other))
    with pytest.raises(
        exports.NotEqual, match=r"not written: it loses .* points of .* of 20 validation images"
    ):
        exports.export(worse, Model(judged), 0.005)


def test_wrong_arguments_and_missing_packages_are_refused(out, tmp_path, monkeypatch):
    with pytest.raises(
        ConfigError, match=r"expected onnx, keras, tflite or saved_model\. Received: 'torch'"
    ):
        export("torch", out, "--to", tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=r"expected a file whose name ends in \.onnx"):
        export("onnx", out, "--to", tmp_path / "model.keras")
    with pytest.raises(ResourceError, match="in a folder that exists"):
        export("onnx", out, "--to", tmp_path / "gone" / "model.onnx")
    with pytest.raises(ResourceError, match="there is no such folder"):
        export("keras", tmp_path / "gone", "--to", tmp_path / "model.keras")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ConfigError, match=r"tf2onnx.*pip install .*'tf2onnx>="):
        export("onnx", out, "--to", tmp_path / "model.onnx")
