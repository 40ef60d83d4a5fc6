"""Tests of LiteRT files: inputs, outputs, and equality with the SavedModel.

The other files are tried through `imgpipe export`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.models.export import exchange_files
from tests.models.small_export import COLOURS, labelled_images, save


@pytest.mark.parametrize("build", [{}, {"flatten": True}, {"resizes": True}], ids=str)
def test_a_lite_file_gives_the_probabilities_of_the_saved_model(tmp_path: Path, build):
    import tensorflow as tf

    directory = save(tmp_path / "export", **build)
    pixels, labels = labelled_images(24)
    served = tf.saved_model.load(str(directory)).signatures["serving_pixels"]
    expected = served(tf.constant(pixels))["probabilities"].numpy()
    for calibration, tolerance in (([], 2e-3), (list(labelled_images(30, seed=1)[0]), 0.03)):
        content = exchange_files.to_lite(directory, COLOURS, calibration)
        answers = exchange_files.open_lite(content)(pixels)
        np.testing.assert_allclose(answers, expected, atol=tolerance)
        assert answers.dtype == np.float32
        assert (answers.argmax(axis=1) == labels).all()


def test_a_file_of_8_bits_has_whole_numbers_only_and_takes_pixels_unscaled(tmp_path: Path):
    """A scale of the input other than 1 would need arithmetic in each app."""
    from ai_edge_litert.interpreter import Interpreter

    grey = [np.full((16, 16, 3), value, np.uint8) for value in range(90, 110)]
    content = exchange_files.to_lite(save(tmp_path / "export"), COLOURS, grey)
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    kinds = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    assert not {kind for kind in kinds if issubclass(kind, np.floating)}
    [given] = interpreter.get_input_details()
    assert given["dtype"] is np.uint8 and given["quantization"] == (1.0, 0)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["pixels"], "outputs": ["probabilities"]}
    }


def test_a_saved_model_without_the_signature_is_named(tmp_path: Path):
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([1])])
    tf.saved_model.save(module, str(tmp_path), {"other": module.call})
    with pytest.raises(ConfigError, match=r"expected a signature serving_pixels.*\['other'\]"):
        exchange_files.to_lite(tmp_path, COLOURS)
