"""The models of TensorFlow Serving's own end-to-end test, created anew.

The models named half_plus_two compute y = x / 2 + 2 (or + 3), so that 2.0 becomes 3.0 (or 4.0). All
models have the version 123.
"""

from __future__ import annotations

from pathlib import Path

VERSION = 123
FOLDER = "00000123"
"""The folder of the version, with leading zeros as in upstream's test."""


def half_plus_two(base: Path, offset: float = 2.0) -> Path:
    """Write half_plus_two as a tf.Module, with a second signature `classify_x_to_y`."""
    import tensorflow as tf

    module = tf.Module()
    module.a, module.b = tf.Variable(0.5), tf.Variable(offset)

    def classify(inputs):
        parsed = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        return {"scores": parsed["x"] * module.a + module.b}

    numbers = tf.TensorSpec([None], tf.float32, name="x")
    examples = tf.TensorSpec([None], tf.string, name="inputs")
    module.predict = tf.function(lambda x: {"y": x * module.a + module.b}, [numbers])
    module.classify = tf.function(classify, [examples])
    signatures = {"serving_default": module.predict, "classify_x_to_y": module.classify}
    tf.saved_model.save(module, str(base / FOLDER), signatures=signatures)
    return base


def product_of_variables(base: Path) -> Path:
    """Write a model with one signature by tf.saved_model.save: y = 3 · 2 · x."""
    import tensorflow as tf

    root = tf.train.Checkpoint()
    root.v1, root.v2 = tf.Variable(3.0), tf.Variable(2.0)
    numbers = tf.TensorSpec(None, tf.float32, name="x")
    root.f = tf.function(lambda x: {"y": root.v1 * root.v2 * x}, [numbers])
    tf.saved_model.save(root, str(base / FOLDER), root.f)
    return base


def several_signatures(base: Path) -> Path:
    """Write a model by tf.saved_model.save whose two signatures answer 1 and 2, whatever x is."""
    import tensorflow as tf

    root = tf.train.Checkpoint()
    numbers = tf.TensorSpec(None, tf.float32, name="x")
    root.f = tf.function(lambda x: {"y": 1.0}, [numbers])
    root.g = tf.function(lambda x: {"y": 2.0}, [numbers])
    signatures = {"serving_default": root.f, "custom_signature_key": root.g}
    tf.saved_model.save(root, str(base / FOLDER), signatures)
    return base


def keras_sequential(base: Path) -> Path:
    """Write a Keras 3 model by ExportArchive, the one export of it that can be served."""
    import keras
    import tensorflow as tf

    dense = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="zeros")
    model = keras.Sequential([keras.Input((1,), name="x"), dense])
    archive = keras.export.ExportArchive()
    archive.track(model)
    numbers = tf.TensorSpec([None, 1], tf.float32, name="x")
    archive.add_endpoint("serving_default", lambda x: {"y": model(x)}, input_signature=[numbers])
    archive.write_out(str(base / FOLDER), verbose=False)
    return base
