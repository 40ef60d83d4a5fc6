"""A model of colours, a server with its page, and the page in a real Chromium."""

from pathlib import Path

import numpy as np
import pytest

from imgpipe.serving.server.corrections import Corrections
from tests.images import encoded
from tests.serving.quick import running

HOSTILE = "<img src=x onerror=document.title='run'>"
CLASSES = (HOSTILE, "green", "=1+1")
KNOWN = "document.querySelector('#knows').innerText"
"""Whether the page has a model to ask."""
PAGED = {"rest_api_port": -1, "web_page": True}


def write_colours(directory: Path) -> None:
    """Write a model whose three probabilities are the shares of red, green and blue."""
    import tensorflow as tf

    names = tf.constant(CLASSES)
    spec = [tf.TensorSpec([None], tf.string, name="image_bytes")]

    def mean(data):
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        return tf.reduce_mean(tf.cast(image, tf.float32), axis=[0, 1])

    @tf.function(input_signature=spec)
    def features(image_bytes):
        means = tf.map_fn(mean, image_bytes, fn_output_signature=tf.TensorSpec([3]))
        return {"features": means}

    @tf.function(input_signature=spec)
    def serve(image_bytes):
        means = features(image_bytes)["features"] + 1.0
        return {
            "unlike": tf.equal(tf.argmax(means, axis=-1), 2),  # it learned no blue images
            "classes": tf.tile(names[None], [tf.size(image_bytes), 1]),
            "probabilities": means / tf.reduce_sum(means, axis=-1, keepdims=True),
        }

    @tf.function(input_signature=spec)
    def cam(image_bytes):
        return {"cam": tf.ones([tf.size(image_bytes), 1, 1]) * tf.linspace(0.0, 1.0, 4)[None, None]}

    module = tf.Module()
    module.serve, module.cam, module.features, module.names = serve, cam, features, names
    signatures = {"serving_default": serve, "cam": cam, "features": features}
    tf.saved_model.save(module, str(directory), signatures=signatures)
    (directory / "assets").mkdir(exist_ok=True)
    (directory / "assets" / "vocabulary.txt").write_text("\n".join(CLASSES))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("colours")
    write_colours(base / "1")
    return base


@pytest.fixture(scope="module")
def corrections(tmp_path_factory) -> Corrections:
    """Return where the page puts images that people correct."""
    return Corrections(tmp_path_factory.mktemp("corrections"))


@pytest.fixture(scope="module")
def server(base, corrections):
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 255
    examples = (encoded(red, "JPEG"), encoded(red[..., ::-1], "JPEG"))
    with running(base, "colours", **PAGED, examples=examples, corrections=corrections) as server:
        yield server


@pytest.fixture
def page(window, server):
    """Open the page; afterwards fail if a script failed or the policy refused something."""
    window.look()
    window.complaints.clear()
    window.open(server.rest_target + "/")
    window.wait(KNOWN)
    yield window
    assert not window.refused(), "no script failed, and the policy refused nothing"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Return four images: red beside green, blue with a hostile name, broken, and empty."""
    folder = tmp_path_factory.mktemp("images")
    half = np.zeros((200, 400, 3), np.uint8)
    half[:, :210, 0] = half[:, 210:, 1] = 255
    (folder / "half.png").write_bytes(encoded(half, "PNG"))
    blue = np.zeros((20, 20, 3), np.uint8)
    blue[..., 2] = 255
    (folder / "-<b>blue&.png").write_bytes(encoded(blue, "PNG"))
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "empty.jpg").touch()
    return folder
