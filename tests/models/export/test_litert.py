"""Tests of LiteRT files: inputs, outputs, and equality with the SavedModel."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.models.export import litert
from tests.models.small_export import labelled_images, save


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> litert.Network:
    """Return the network of a small SavedModel."""
    return litert.load_network(str(save(tmp_path_factory.mktemp("export"))))


@pytest.fixture(scope="module")
def files(network) -> dict[str, bytes]:
    """Return a LiteRT file of each kind, by kind."""
    images = list(labelled_images(30, seed=1)[0])
    return {kind: litert.convert(network, kind, images) for kind in litert.FILES}


def _probabilities(directory: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the answers of the SavedModel's signature `serving_pixels`."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory))
    return loaded.signatures["serving_pixels"](tf.constant(pixels))["probabilities"].numpy()


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("float16", 2e-3), ("int8", 0.03)], ids=["float16", "int8"]
)
@pytest.mark.parametrize("build", [{}, {"flatten": True}, {"resizes": True}], ids=str)
def test_a_file_gives_the_probabilities_of_the_saved_model(tmp_path: Path, kind, tolerance, build):
    directory = save(tmp_path / "export", **build)
    made = litert.load_network(str(directory))
    assert made.image_size == 16, "of the signature's own resize, not of a later one"
    content = litert.convert(made, kind, list(labelled_images(30, seed=1)[0]))
    pixels, labels = labelled_images(24)
    with litert.LiteModel(content) as model:
        answers = model.probabilities(pixels)
    np.testing.assert_allclose(answers, _probabilities(directory, pixels), atol=tolerance)
    assert answers.dtype == np.float32
    assert (answers.argmax(axis=1) == labels).all()


def test_an_int8_file_has_no_float_tensors_and_a_float16_file_has(files):
    with litert.LiteModel(files["int8"]) as model:
        assert model.float_tensors() == []
    with litert.LiteModel(files["float16"]) as model:
        assert model.float_tensors()


@pytest.mark.parametrize("kind", litert.FILES)
def test_a_file_takes_uint8_pixels_unscaled(files, kind):
    with litert.LiteModel(files[kind]) as model:
        assert model.takes_pixels()
        assert model.image_size == 16


def test_an_int8_file_takes_unscaled_pixels_after_calibration_on_grey_images(network):
    grey = [np.full((16, 16, 3), value, np.uint8) for value in range(90, 110)]
    with litert.LiteModel(litert.convert(network, litert.INT8, grey)) as model:
        assert model.takes_pixels()


def test_a_file_has_the_signature_that_servers_ask_for(files):
    from ai_edge_litert.interpreter import Interpreter

    for content in files.values():
        signatures = Interpreter(model_content=content).get_signature_list()
        assert signatures == {
            "serving_default": {"inputs": ["pixels"], "outputs": ["probabilities"]}
        }


def test_a_batch_is_accepted_after_resizing_the_input(files):
    from ai_edge_litert.interpreter import Interpreter

    pixels, labels = labelled_images(6)
    interpreter = Interpreter(model_content=files["float16"])
    entry, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(entry["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], pixels)
    interpreter.invoke()
    assert (interpreter.get_tensor(out["index"]).argmax(axis=1) == labels).all()


@pytest.mark.parametrize("count", [0, 1, 7])
def test_answers_do_not_depend_on_the_number_of_cores(files, count, monkeypatch):
    pixels, _ = labelled_images(count)
    answers = []
    for cores in ({0}, {0, 1, 2}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        with litert.LiteModel(files["int8"]) as model:
            answers.append(model.probabilities(pixels))
    assert answers[0].shape == (count, 3)
    np.testing.assert_array_equal(*answers)


def test_converting_again_gives_the_same_answers(network, files):
    pixels, _ = labelled_images(12)
    again = litert.convert(network, litert.INT8, list(labelled_images(30, seed=1)[0]))
    with litert.LiteModel(again) as new, litert.LiteModel(files["int8"]) as old:
        np.testing.assert_array_equal(new.probabilities(pixels), old.probabilities(pixels))


def test_int8_without_images_is_refused(network):
    with pytest.raises(ConfigError, match="training images to calibrate on"):
        litert.convert(network, litert.INT8)


def test_an_unknown_kind_is_named(network):
    with pytest.raises(ConfigError, match="Received: 'int4'"):
        litert.convert(network, "int4")


def test_a_saved_model_without_the_signature_is_named(tmp_path: Path):
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([1])])
    tf.saved_model.save(module, str(tmp_path), {"other": module.call})
    with pytest.raises(ConfigError, match=r"expected a signature serving_pixels.*\['other'\]"):
        litert.load_network(str(tmp_path))
