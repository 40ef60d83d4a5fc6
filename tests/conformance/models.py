"""The models of TensorFlow Serving's own end-to-end test, created anew.

The models named half_plus_two compute y = x / 2 + 2 (or + 3), so that 2.0 becomes 3.0 (or 4.0). All
models have the version 123.
"""

from __future__ import annotations

from pathlib import Path

VERSION = 123
FOLDER = "00000123"
"""The folder of the version, with leading zeros as in upstream's test."""


def half_plus_two_tf1(base: Path, offset: float = 2.0) -> Path:
    """Write the classic half_plus_two: a TF1 graph, saved with the v1 builder.

    It has signatures for Predict, Regress and Classify.
    """
    import tensorflow as tf

    v1, utils = tf.compat.v1, tf.compat.v1.saved_model.signature_def_utils
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.get_variable("a", initializer=0.5)
        b = v1.get_variable("b", initializer=offset)
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(
            serialized, {"x": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])}
        )
        x = tf.identity(parsed["x"], name="x")
        y = tf.add(tf.multiply(a, x), b, name="y")
        signatures = {
            "serving_default": utils.predict_signature_def({"x": x}, {"y": y}),
            "regress_x_to_y": utils.regression_signature_def(serialized, y),
            "classify_x_to_y": utils.classification_signature_def(serialized, None, y),
        }
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(base / FOLDER))
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.SERVING], signature_def_map=signatures
        )
        builder.save()
    return base


def half_plus_two_tf2(base: Path) -> Path:
    """Write half_plus_two as a tf.Module.

    The method name of all its signatures is ``tensorflow/serving/predict``.
    """
    import tensorflow as tf

    class HalfPlusTwo(tf.Module):
        def __init__(self) -> None:
            self.a, self.b = tf.Variable(0.5), tf.Variable(2.0)

        def compute(self, x):
            return x * self.a + self.b

        def from_examples(self, inputs):
            spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}
            return self.compute(tf.io.parse_example(inputs, spec)["x"])

    module = HalfPlusTwo()
    examples = tf.TensorSpec([None], tf.string, name="inputs")
    numbers = tf.TensorSpec([None], tf.float32, name="x")
    predict = tf.function(lambda x: {"y": module.compute(x)}, input_signature=[numbers])
    regress = tf.function(
        lambda inputs: {"outputs": module.from_examples(inputs)}, input_signature=[examples]
    )
    classify = tf.function(
        lambda inputs: {"scores": module.from_examples(inputs)}, input_signature=[examples]
    )
    tf.saved_model.save(
        module,
        str(base / FOLDER),
        signatures={
            "serving_default": predict,
            "regress_x_to_y": regress,
            "classify_x_to_y": classify,
        },
    )
    return base


def product_of_variables(base: Path) -> Path:
    """Write a model with one signature by tf.saved_model.save: y = 3 · 2 · x."""
    import tensorflow as tf

    root = tf.train.Checkpoint()
    root.v1, root.v2 = tf.Variable(3.0), tf.Variable(2.0)
    root.f = tf.function(lambda x: {"y": root.v1 * root.v2 * x})
    concrete = root.f.get_concrete_function(tf.TensorSpec(None, tf.float32, name="x"))
    tf.saved_model.save(root, str(base / FOLDER), concrete)
    return base


def two_signatures(base: Path) -> Path:
    """Write a model with two signatures by tf.saved_model.save.

    The default signature gives 1.0, ``custom_signature_key`` gives 2.0.
    """
    import tensorflow as tf

    root = tf.train.Checkpoint()
    spec = [tf.TensorSpec(None, tf.float32, name="x")]
    root.f = tf.function(lambda x: {"y": tf.ones([1]) + 0 * x}, input_signature=spec)
    root.g = tf.function(lambda x: {"y": tf.fill([1], 2.0) + 0 * x}, input_signature=spec)
    signatures = {"serving_default": root.f, "custom_signature_key": root.g}
    tf.saved_model.save(root, str(base / FOLDER), signatures=signatures)
    return base


def keras_sequential(base: Path) -> Path:
    """Write a Keras 3 model by ExportArchive, the one export of it that can be served."""
    import keras
    import tensorflow as tf

    model = keras.Sequential(
        [
            keras.Input((1,), name="x"),
            keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="zeros"),
        ]
    )
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda x: {"y": model(x)},
        input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")],
    )
    archive.write_out(str(base / FOLDER), verbose=False)
    return base


def keras_model_export(base: Path) -> Path:
    """Write a Keras 3 model by ``model.export``, which names the outputs itself."""
    import keras

    model = keras.Sequential([keras.Input((1,), name="x"), keras.layers.Rescaling(0.5, 2.0)])
    model.export(str(base / FOLDER), verbose=False)
    return base
