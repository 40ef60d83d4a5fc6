"""Layers that train faster on a processor than those of Keras.

oneDNN has a fast routine for the gradient of a depthwise kernel only if the kernel has at most
three columns: a kernel of 5 × 5 takes ten times as long as one of 3 × 3. Here, this gradient is
assembled from parts of three columns, which takes half as long. The gradient of the input is the
convolution with the kernel turned by 180 degrees, which is 1.8 times as fast as TensorFlow's own
operation. Both gradients are those of TensorFlow except for rounding.

Convolutions of 1 × 1 are multiplications of matrices, which are faster in bfloat16 where the
processor supports it. Depthwise convolutions would be slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import keras
import tensorflow as tf

from imgpipe.models.backbones import presets

_ONE_BY_ONE: Final = [1, 1, 1, 1]  # strides
_COLUMNS: Final = 3  # of the widest kernel for which oneDNN has a fast routine


def accelerated(model: keras.Model, bfloat16: bool) -> keras.Model:
    """Replace the layers of a functional model that can be trained faster.

    Convolutions of 1 x 1 may be computed in bfloat16, while their weights stay float32. The names
    and all other layers are those of `model`, which is returned if there is nothing to replace.
    """

    def faster(layer: Any) -> Any:
        if bfloat16 and _is_pointwise(layer):
            return _BFloat16Conv2D.from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})
        if _is_depthwise(layer):
            return _DepthwiseConv2D.from_config(layer.get_config())
        return layer

    return _replaced(model, faster)


def exact(model: keras.Model) -> keras.Model:
    """Return a model that may compute in 16 bits with all layers in float32, as they are served."""

    def in_float32(layer: Any) -> Any:
        as_it_is = (keras.layers.InputLayer, keras.Model)  # neither has a dtype in its settings
        if isinstance(layer, as_it_is) or layer.compute_dtype == "float32":
            return layer
        if presets.of_hub(layer):  # which cannot all be created again
            for inner in layer._flatten_layers():
                inner.dtype_policy = "float32"
            return layer
        kind = keras.layers.Conv2D if isinstance(layer, _BFloat16Conv2D) else type(layer)
        return kind.from_config({**layer.get_config(), "dtype": "float32"})

    return _replaced(model, in_float32)


def _replaced(model: keras.Model, replacement: Callable[[Any], Any]) -> keras.Model:
    """Return a model with other layers, which get the weights of those that they replace."""
    pairs = [(layer, replacement(layer)) for layer in model.layers]
    new = {old.name: layer for old, layer in pairs if layer is not old}
    if not new:
        return model
    # A compiled model would be copied with its optimizer.
    layers = keras.Model(model.input, model.output, name=model.name)
    copy = keras.models.clone_model(layers, clone_function=lambda layer: new.get(layer.name, layer))
    for name, layer in new.items():
        layer.set_weights(model.get_layer(name).get_weights())
    return copy


def _is_pointwise(layer: Any) -> bool:
    """Return whether a layer is a convolution of 1 x 1 in float32."""
    return (
        type(layer) is keras.layers.Conv2D
        and layer.kernel_size == (1, 1)
        and layer.compute_dtype == "float32"
    )


def _is_depthwise(layer: Any) -> bool:
    """Return whether `_DepthwiseConv2D` computes the same as this layer."""
    return (
        type(layer) is keras.layers.DepthwiseConv2D
        and layer.padding == "same"
        and layer.data_format == "channels_last"
        and layer.depth_multiplier == 1
        and {*layer.strides, *layer.dilation_rate} == {1}
        and all(size % 2 for size in layer.kernel_size)
    )


class _BFloat16Conv2D(keras.layers.Conv2D):
    """A convolution that is computed in bfloat16 for training only."""


class _DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """A layer for which `_is_depthwise` holds, with other gradients."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = _convolved(inputs, tf.convert_to_tensor(self.kernel))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)


@tf.custom_gradient
def _convolved(
    inputs: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Return the convolution of inputs [N, H, W, C] with a kernel [odd, odd, C, 1]."""

    def gradient(above: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        turned = tf.reverse(kernel, [0, 1])
        of_inputs = tf.nn.depthwise_conv2d(above, turned, _ONE_BY_ONE, "SAME")
        return of_inputs, _of_kernel(inputs, above, *kernel.shape[:2])

    return tf.nn.depthwise_conv2d(inputs, kernel, _ONE_BY_ONE, "SAME"), gradient


def _of_kernel(inputs: tf.Tensor, above: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Return the gradient of the kernel, [height, width, C, 1]."""
    gradient = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter
    channels = inputs.shape[-1]
    if width <= _COLUMNS:
        return gradient(
            input=inputs,
            filter_sizes=[height, width, channels, 1],
            out_backprop=above,
            strides=_ONE_BY_ONE,
            padding="SAME",
        )
    padded = tf.pad(inputs, [[0, 0], [height // 2] * 2, [width // 2] * 2, [0, 0]])
    columns = tf.shape(above)[2]
    parts = []
    for first in range(0, width, _COLUMNS):
        part = min(_COLUMNS, width - first)
        parts.append(
            gradient(
                input=padded[:, :, first : first + columns + part - 1],
                filter_sizes=[height, part, channels, 1],
                out_backprop=above,
                strides=_ONE_BY_ONE,
                padding="VALID",
            )
        )
    return tf.concat(parts, 1)
