"""ONNX and LiteRT files answer as the SavedModel; others are tried through `imgpipe export`."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from imgpipe.models.errors import ResourceError
from imgpipe.models.export import exchange_files
from imgpipe.models.export.saved_model import export
from imgpipe.models.names import HEAD
from imgpipe.models.network import network_file
from imgpipe.models.network.classifier import build_classifier
from tests.images import soft
from tests.network_settings import network_settings

_SIDE = 24
_GELU = {"builder": f"{__name__}:gelu"}


def gelu(side: int) -> keras.Model:
    """Return a backbone whose layers hold what Keras' own ONNX files do not survive."""
    pixels = keras.Input((side, side, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    return keras.Model(pixels, keras.layers.Conv2D(8, 3, strides=4, activation="gelu")(x))


def _version(target: Path, **settings) -> Path:
    keras.utils.set_random_seed(0)
    whole = {"backbone": "conv_4_8", "weights": "none", "image_size": _SIDE, **settings}
    if "builder" in settings:
        del whole["backbone"]
    chosen = network_settings(**whole)
    classifier = build_classifier(None, ["blue", "green", "red"], chosen, temperature=1.3)
    head = classifier.network.get_layer(HEAD)
    kernel, bias = head.get_weights()
    head.set_weights([3 * kernel, bias])
    export(classifier, str(target))
    network_file.save(classifier, chosen, str(target))
    return target


@pytest.mark.parametrize("settings", [{"features": "flatten"}, _GELU], ids=str)
def test_a_file_gives_the_probabilities_of_the_saved_model(tmp_path: Path, settings) -> None:
    version = _version(tmp_path / "1", **settings)
    pixels = np.stack([np.asarray(soft(seed, (_SIDE, _SIDE))) for seed in range(12)])
    served = tf.saved_model.load(str(version)).signatures["serving_pixels"]
    expected = served(tf.constant(pixels))["probabilities"].numpy()
    assert expected.std(axis=0).max() > 1e-3, "the images differ"
    answers = exchange_files.open_lite(exchange_files.to_lite(version))(pixels)
    np.testing.assert_allclose(answers, expected, atol=2e-3)
    assert answers.dtype == np.float32
    pytest.importorskip("tf2onnx")
    answers = exchange_files.open_onnx(exchange_files.to_onnx(version))(pixels)
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_a_lite_file_takes_pixels_unscaled_by_the_names_of_the_served_model(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    content = exchange_files.to_lite(_version(tmp_path / "1"))
    interpreter = Interpreter(model_content=content)
    [given], [answer] = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["dtype"], answer["dtype"]) == (np.uint8, np.float32)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["pixels"], "outputs": ["probabilities"]}
    }


def test_a_saved_model_without_its_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"the network that the version was made of"):
        exchange_files.to_lite(tmp_path)
