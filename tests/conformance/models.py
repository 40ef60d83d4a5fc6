"""The models of TensorFlow Serving's own end-to-end test, created anew.

The models named half_plus_two compute y = x / 2 + 2 (or + 3), so that 2.0 becomes 3.0 (or 4.0). All
models have the version 123.
"""

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
