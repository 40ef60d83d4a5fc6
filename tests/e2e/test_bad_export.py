"""Tests that ServingValidator refuses an export that can be loaded but does not answer."""

from pathlib import Path

import numpy as np


def test_an_export_that_loads_but_does_not_answer_fails_the_serving_check(tmp_path: Path):
    """A Keras 3 model saved with `tf.saved_model.save` is AVAILABLE, but every request fails."""
    import keras
    import tensorflow as tf

    from imgpipe.components.serving_validator import Samples, validate

    module = tf.Module()
    module.model = keras.Sequential([keras.Input((192,)), keras.layers.Dense(2)])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def pixels(one: tf.Tensor) -> tf.Tensor:
            image = tf.io.decode_image(one, 3, expand_animations=False)
            return tf.cast(tf.reshape(image, [192]), tf.float32)

        decoded = tf.map_fn(pixels, image_bytes, fn_output_signature=tf.TensorSpec([192]))
        return {"probabilities": module.model(decoded)}

    image = tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy()
    expected = serve(tf.constant([image]))["probabilities"].numpy()
    tf.saved_model.save(module, str(tmp_path / "export"), signatures={"serving_default": serve})
    checks = validate(str(tmp_path / "export"), Samples([image], expected))
    assert [check["passed"] for check in checks] == [True, False]
    assert checks[1]["name"] == "answers as the trained model"
    assert "Could not find variable" in checks[1]["detail"]
