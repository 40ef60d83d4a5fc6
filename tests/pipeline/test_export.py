"""Tests of ``imgpipe export``, whose files must answer as the published version does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import imgpipe
from imgpipe.components.common.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.application import app
from imgpipe.pipeline.published import exports
from imgpipe.pipeline.published.model import Model
from tests import python_program
from tests.images import encoded, noise
from tests.pipeline import past_runs, small_version


def export(*arguments):
    """Run ``imgpipe export`` in this process; return the result, or raise its error."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("kind", ["onnx", "keras", "tflite"])
def test_an_exported_file_answers_as_the_version_does(out, tmp_path, kind):
    file = tmp_path / f"model.{kind}"
    described = imgpipe.export(kind, out, file).summary
    assert described["file"] == str(file) and described["bytes"] == file.stat().st_size
    assert (described["kind"], described["version"]) == (kind, 1)
    assert described["classes"] == list(small_version.CLASSES)
    parity = described["parity"]
    assert (parity["images"], parity["origin"]) == (16, "noise")
    assert parity["largest_difference"] <= parity["tolerance"]
    assert parity["agreement"] > 0.9
    assert described["judged"] is None, "the images of its run do not exist"


def test_the_onnx_file_has_its_classes_and_runs_in_onnxruntime(out, tmp_path):
    import onnxruntime

    export("onnx", out / "model", "--to", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    [given], [returned] = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("pixels", "tensor(uint8)", [24, 24, 3])
    assert (returned.name, returned.type) == ("probabilities", "tensor(float)")
    stored = session.get_modelmeta().custom_metadata_map["classes"]
    assert json.loads(stored) == list(small_version.CLASSES)
    pixels = np.zeros((3, 24, 24, 3), np.uint8)
    [answers] = session.run(None, {"pixels": pixels})
    assert answers.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)


@pytest.mark.slow
def test_keras_reads_its_file_without_imgpipe(out, tmp_path):
    export("keras", out / "model" / "1", "--to", tmp_path / "model.keras")
    program = (
        "import sys, keras\n"
        f"model = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        "print(model.output_shape, 'imgpipe' in sys.modules)"
    )
    assert python_program.printed(program).splitlines()[0] == "(None, 2) False"


def test_an_export_with_other_answers_is_refused(out):
    model = Model(out / "model" / "1")
    right = exports.KINDS["keras"]

    def swapped(content):
        return lambda pixels: right.open(content)(pixels)[:, ::-1]

    with pytest.raises(
        exports.NotEqual, match=r"does not answer as .* does: on 16 images"
    ) as error:
        exports.export("keras", dataclasses.replace(right, open=swapped), model)
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


@pytest.mark.parametrize("kind", ["tflite", "tflite-int8"])
def test_a_lite_file_is_judged_on_the_validation_images(judged, tmp_path, kind):
    file = tmp_path / "model.tflite"
    said = export(kind, judged, "--to", file, "--max-loss", 0.1).stdout
    assert "judged   accuracy" in said
    found = imgpipe.export(kind, judged, file, max_loss=0.1).summary["judged"]
    assert (found["images"], found["model_accuracy"], found["threshold"]) == (20, 1.0, 0.9)
    assert found["accuracy"] == found["agreement"] >= 0.9


def test_a_lite_file_that_loses_too_much_is_refused(judged, tmp_path):
    """The file of another network stands for one whose rounding changes the answers."""
    other = Model(small_version.push(tmp_path, seed=5))
    right = exports.KINDS["tflite-int8"]
    worse = dataclasses.replace(right, make=lambda _: exports.KINDS["tflite"].make(other))
    with pytest.raises(
        exports.NotEqual,
        match=r"accuracy 0\.\d+ is below the threshold 0\.9; it loses .* of 20 validation images",
    ):
        exports.export("tflite-int8", worse, Model(judged))


def test_a_file_of_8_bits_needs_the_images_of_the_run(out, tmp_path):
    with pytest.raises(ResourceError, match=r"images of the run .* which no longer exist"):
        export("tflite-int8", out, "--to", tmp_path / "model.tflite")


def test_wrong_arguments_and_missing_packages_are_refused(out, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"expected onnx, keras, .*\. Received: 'torch'"):
        export("torch", out, "--to", tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=r"expected a file whose name ends in \.onnx"):
        export("onnx", out, "--to", tmp_path / "model.keras")
    with pytest.raises(ResourceError, match="in a folder that exists"):
        export("onnx", out, "--to", tmp_path / "gone" / "model.onnx")
    with pytest.raises(ResourceError, match="there is no such folder"):
        export("keras", tmp_path / "gone", "--to", tmp_path / "model.keras")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(
        ConfigError, match=r"tf2onnx.*pip install --upgrade tf2onnx onnx onnxruntime"
    ):
        export("onnx", out, "--to", tmp_path / "model.onnx")
