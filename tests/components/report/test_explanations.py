"""Mistakes are shown with the Grad-CAM heat map of the exported model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgpipe.components.report import explanations
from imgpipe.components.report.sections.accuracy import cam_key
from tests.images import encoded


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """Return a SavedModel whose heat map is greatest at the right side of every image."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def cam(image_bytes):
        heat = tf.linspace(0.0, 1.0, 4)[None, None]
        return {"cam": tf.ones([tf.size(image_bytes), 1, 1]) * heat}

    module = tf.Module()
    module.cam = cam
    uri = tmp_path_factory.mktemp("model")
    tf.saved_model.save(module, str(Path(uri) / "Format-Serving"), signatures={"cam": cam})
    return str(uri / "Format-Serving")


def test_the_regions_that_speak_for_the_class_are_red(model):
    images = {f"{i}": encoded(np.full((20, 40 + i, 3), 90, np.uint8)) for i in range(9)}
    images["broken"] = b"no image"
    found = explanations.encoded_cams(model, images, [*images, "not there"])
    assert sorted(found) == sorted(cam_key(str(i)) for i in range(9))
    pixels = np.asarray(Image.open(io.BytesIO(found[cam_key("3")]))).astype(int)
    assert pixels.shape == (20, 43, 3)
    assert pixels[:, -4:, 0].mean() > pixels[:, -4:, 2].mean() + 50, "red at the right"
    assert pixels[:, :4, 2].mean() > pixels[:, :4, 0].mean(), "blue at the left"


def test_a_model_without_grad_cam_gives_no_heat_maps_and_a_warning(tmp_path, model, caplog):
    images = {"one": encoded(np.zeros((8, 8, 3), np.uint8))}
    assert explanations.encoded_cams(str(tmp_path), images, ["one"]) == {}
    assert "could not be explained with Grad-CAM" in caplog.text
    assert explanations.encoded_cams(str(tmp_path), images, ["another"]) == {}
