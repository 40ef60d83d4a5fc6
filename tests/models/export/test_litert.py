"""Tests of LiteRT files: inputs, outputs, and equality with the SavedModel."""

from __future__ import annotations

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
    return {kind: litert.convert(network, kind, images) for kind in (litert.FLOAT16, litert.INT8)}


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
    answers = litert.LiteModel(content).probabilities(pixels)
    np.testing.assert_allclose(answers, _probabilities(directory, pixels), atol=tolerance)
    assert answers.dtype == np.float32
    assert (answers.argmax(axis=1) == labels).all()


@pytest.mark.parametrize("grey", [False, True])
def test_an_int8_file_has_whole_numbers_only_and_takes_pixels_unscaled(network, grey):
    """A scale of the input other than 1 would need arithmetic in each app."""
    from ai_edge_litert.interpreter import Interpreter

    images = [np.full((16, 16, 3), value, np.uint8) for value in range(90, 110)]
    if not grey:
        images = list(labelled_images(30, seed=1)[0])
    interpreter = Interpreter(model_content=litert.convert(network, litert.INT8, images))
    interpreter.allocate_tensors()
    kinds = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    assert not {kind for kind in kinds if issubclass(kind, np.floating)}
    [given] = interpreter.get_input_details()
    assert given["dtype"] is np.uint8 and given["quantization"] == (1.0, 0)


def test_a_file_has_the_signature_that_servers_ask_for(files):
    from ai_edge_litert.interpreter import Interpreter

    for content in files.values():
        signatures = Interpreter(model_content=content).get_signature_list()
        assert signatures == {
            "serving_default": {"inputs": ["pixels"], "outputs": ["probabilities"]}
        }


def test_int8_without_images_is_refused(network):
    with pytest.raises(ConfigError, match="training images to calibrate on"):
        litert.convert(network, litert.INT8)


def test_a_saved_model_without_the_signature_is_named(tmp_path: Path):
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([1])])
    tf.saved_model.save(module, str(tmp_path), {"other": module.call})
    with pytest.raises(ConfigError, match=r"expected a signature serving_pixels.*\['other'\]"):
        litert.load_network(str(tmp_path))
