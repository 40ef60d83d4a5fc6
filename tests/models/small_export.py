"""A SavedModel that is small enough for a test: it predicts an image's dominant colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np

COLOURS = ("blue", "green", "red")


def save(directory: Path, size: int = 16, flatten: bool = False, resizes: bool = False) -> Path:
    """Write the SavedModel with the signature for pixels that an export has, and return its folder.

    Args:
        directory: Folder of the SavedModel.
        size: Side of the network's input in pixels.
        flatten: Whether the head sees all positions instead of their average.
        resizes: Whether the network itself halves the image, by an op like that of the signature.
    """
    import keras
    import tensorflow as tf
    from keras import layers

    pixels = keras.Input((size, size, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(pixels)
    if resizes:
        x = layers.Resizing(size // 2, size // 2)(x)
    x = layers.Conv2D(3, 1, activation="relu", name="swap")(x)  # from RGB to class order
    x = layers.Flatten()(x) if flatten else layers.GlobalAveragePooling2D()(x)
    network = keras.Model(pixels, layers.Dense(3, activation="softmax", name="head")(x))
    network.get_layer("swap").set_weights([np.eye(3)[::-1][None, None], np.zeros(3)])
    places = network.get_layer("head").input.shape[-1] // 3
    weights = np.tile(np.eye(3) * 20 / places, (places, 1))
    network.get_layer("head").set_weights([weights, np.zeros(3)])

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


def labelled_images(count: int, size: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with more of one colour: uint8 [n, S, S, 3] and class indices [n]."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = random.integers(0, 180, (count, size, size, 3))
    pixels[np.arange(count), ..., 2 - labels] += 70
    return pixels.astype(np.uint8), labels
