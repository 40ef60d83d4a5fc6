"""A SavedModel that is small enough for a test: it predicts an image's dominant colour."""

from pathlib import Path

import numpy as np

COLOURS = ("blue", "green", "red")


def save(directory: Path, size: int = 16) -> Path:
    """Write the SavedModel with the signature for pixels that an export has, and return its folder.

    Args:
        directory: Folder of the SavedModel.
        size: Side of the network's input in pixels.
    """
    import keras
    import tensorflow as tf
    from keras import layers

    pixels = keras.Input((size, size, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(pixels)
    x = layers.Conv2D(3, 1, activation="relu", name="swap")(x)  # from RGB to class order
    x = layers.GlobalAveragePooling2D()(x)
    network = keras.Model(pixels, layers.Dense(3, activation="softmax", name="head")(x))
    network.get_layer("swap").set_weights([np.eye(3)[::-1][None, None], np.zeros(3)])
    network.get_layer("head").set_weights([np.eye(3) * 20, np.zeros(3)])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="pixels")])
    def serving_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.shape(pixels)[0]
        with tf.control_dependencies([tf.debugging.assert_positive(count)]):
            given = tf.identity(pixels)
        answer = network(tf.image.resize(given, [size, size]))
        label = tf.gather(tf.constant(COLOURS), tf.argmax(answer, axis=1))
        return {"probabilities": answer, "label": label}

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serving_pixels", serving_pixels)
    archive.write_out(str(directory), verbose=False)
    return directory
