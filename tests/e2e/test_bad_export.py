"""An export that loads and does not run must not get past ServingValidator."""

from __future__ import annotations

import numpy as np


def test_a_plain_saved_model_save_is_caught(tmp_path):
    """`tf.saved_model.save` of a Keras 3 model: AVAILABLE, and every request fails."""
    import keras
    import tensorflow as tf

    from imgpipe.components.serving_validator.component import validate

    pixels = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(pixels))
    model = keras.Model(pixels, outputs)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes):
        decoded = tf.map_fn(
            lambda one: tf.image.resize(
                tf.io.decode_image(one, 3, expand_animations=False), (8, 8)
            ),
            image_bytes,
            fn_output_signature=tf.TensorSpec((8, 8, 3), tf.float32),
        )
        return {"probabilities": model(decoded)}

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.model = model

    image = tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy()
    expected = serve(tf.constant([image]))["probabilities"].numpy()
    tf.saved_model.save(Module(), str(tmp_path / "export"), signatures={"serving_default": serve})
    checks = validate(str(tmp_path / "export"), [image], expected)
    assert [check.passed for check in checks] == [True, False]
    assert checks[1].name == "answers as the trained model"
    assert "FailedPrecondition" in checks[1].detail
