"""Layers that train faster compute what Keras' layers compute, and keep their names."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from imgpipe.models.machine.process import dtype_policy
from imgpipe.models.training.fast_layers import accelerated, exact


def network(*layers: keras.layers.Layer, shape: tuple[int, ...] = (9, 8, 4)) -> keras.Model:
    inputs = keras.Input(shape)
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name="above_block8")


def gradients(model: keras.Model, images: tf.Tensor) -> list[np.ndarray]:
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(tf.sin(model(images, training=True)))
    found = tape.gradient(loss, [images, *variables])
    return [np.asarray(gradient) for gradient in found]


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (7, 7), (9, 3), (3, 9)])
@pytest.mark.parametrize(("shape", "bias"), [((9, 8, 4), True), ((2, 1, 3), False)])
def test_gradients_are_those_of_tensorflow(size, shape, bias):
    keras.utils.set_random_seed(1)
    layer = keras.layers.DepthwiseConv2D(size, padding="same", use_bias=bias, activation="tanh")
    plain = network(layer, shape=shape)
    fast = accelerated(plain, bfloat16=False)
    images = tf.random.normal([3, *shape])

    assert type(fast.layers[1]) is not type(plain.layers[1])
    np.testing.assert_allclose(fast(images), plain(images), atol=1e-6)
    for ours, theirs in zip(gradients(fast, images), gradients(plain, images), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_everything_else_stays():
    dense = keras.layers.Dense(3, name="dense")
    depthwise = keras.layers.DepthwiseConv2D(5, padding="same", name="mixing")
    depthwise.trainable = False
    fast = accelerated(network(depthwise, dense), bfloat16=True)

    assert fast.name == "above_block8"
    assert fast.get_layer("dense") is dense
    assert fast.get_layer("mixing") is not depthwise
    assert not fast.get_layer("mixing").trainable


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.DepthwiseConv2D(5, strides=2, padding="same"),
        keras.layers.DepthwiseConv2D(5, padding="valid"),
        keras.layers.DepthwiseConv2D(4, padding="same"),
        keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        keras.layers.DepthwiseConv2D(3, padding="same", dilation_rate=2),
        keras.layers.Conv2D(4, 3, padding="same"),
    ],
)
def test_other_layers_stay(layer):
    model = network(layer)

    assert accelerated(model, bfloat16=True) is model


@pytest.mark.parametrize(("bfloat16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_convolutions_of_one_pixel_are_computed_in_bfloat16(bfloat16, dtype):
    plain = network(
        keras.layers.Conv2D(6, 1, activation="relu6", name="expand"),
        keras.layers.DepthwiseConv2D(5, padding="same", name="mixing"),
    )
    fast = accelerated(plain, bfloat16)
    images = tf.random.normal([2, 9, 8, 4])

    assert fast.get_layer("expand").compute_dtype == dtype
    assert fast.get_layer("mixing").compute_dtype == fast.get_layer("expand").variable_dtype
    np.testing.assert_allclose(fast(images), plain(images), atol=0.02)
    np.testing.assert_allclose(exact(fast)(images), plain(images), atol=1e-6)


def test_a_network_of_mixed_precision_is_served_in_float32():
    keras.utils.set_random_seed(2)
    plain = network(keras.layers.Conv2D(6, 3, name="one"), keras.layers.ReLU(name="two"))
    with dtype_policy("mixed_bfloat16"):
        mixed = network(keras.layers.Conv2D(6, 3, name="one"), keras.layers.ReLU(name="two"))
    mixed.get_layer("one").set_weights(plain.get_layer("one").get_weights())
    images = tf.random.normal([2, 9, 8, 4])
    assert float(tf.reduce_max(tf.abs(tf.cast(mixed(images), tf.float32) - plain(images)))) > 1e-4
    served = exact(mixed)
    assert {layer.compute_dtype for layer in served.layers[1:]} == {"float32"}
    np.testing.assert_allclose(served(images), plain(images), atol=1e-6)
