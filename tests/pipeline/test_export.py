"""Tests of ``imgpipe export``, whose files must answer as the published version does."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import imgpipe
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.application import app
from imgpipe.pipeline.published import exports
from imgpipe.pipeline.published.evaluation import Model
from tests import json_formats, python_program
from tests.pipeline import small_version


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Return an output folder with one version of a small network."""
    folder = tmp_path_factory.mktemp("exported")
    small_version.push(folder)
    return folder


def export(*arguments):
    """Run ``imgpipe export`` in this process; return the result, or raise its error."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("kind", ["onnx", "keras", "tflite"])
def test_an_exported_file_answers_as_the_version_does(out, tmp_path, kind):
    file = tmp_path / f"model.{kind}"
    described = json.loads(export(kind, out, "--to", file, "--json", "-").stdout)
    json_formats.conform("export", described)
    assert described["file"] == str(file) and described["bytes"] == file.stat().st_size
    assert (described["kind"], described["version"]) == (kind, 1)
    assert described["classes"] == list(small_version.CLASSES)
    parity = described["parity"]
    assert (parity["images"], parity["origin"]) == (15, "drawn")
    assert parity["largest_difference"] <= parity["tolerance"]
    assert parity["agreement"] > 0.9


@pytest.mark.parametrize(
    ("agreement", "note"),
    [(1.0, ""), (14 / 15, "1 of 15 images gets another"), (13 / 15, "2 of 15 images get another")],
)
def test_labels_that_change_with_rounded_pixels_are_noted(
    out, tmp_path, monkeypatch, agreement, note
):
    compared = {"largest_difference": 1e-6, "agreement": agreement}
    monkeypatch.setattr(exports, "_compare", lambda *arguments: compared)
    text = " ".join(export("keras", out, "--to", tmp_path / "model.keras").output.split())
    assert "at most 1e-06 on the same pixels" in text
    assert note in text and ("pixels are rounded" in text) == bool(note)


def test_the_python_function_writes_a_file_with_the_same_parity(out, tmp_path):
    made = imgpipe.export("tflite", out, tmp_path / "model.tflite", version=1)
    assert made.file == tmp_path / "model.tflite" and made.file.stat().st_size > 1000
    json_formats.conform("export", made.summary)
    assert made.largest_difference == made.summary["parity"]["largest_difference"] <= 2e-2
    with pytest.raises(ConfigError, match=r"expected onnx, keras, tflite\. Received: 'torch'"):
        imgpipe.export("torch", out, tmp_path / "model.pt")


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
    model = Model.of(out / "model" / "1")
    right = exports.kinds()["keras"]

    def swapped(content, pixels):
        return right.answer(content, pixels)[:, ::-1]

    with pytest.raises(
        exports.NotEqual, match=r"does not answer as .* does: on 15 images"
    ) as error:
        exports.export("keras", dataclasses.replace(right, answer=swapped), model)
    assert error.value.exit_code == 3


def test_wrong_arguments_and_missing_packages_are_refused(out, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"expected onnx, keras, tflite. Received: 'torch'"):
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
