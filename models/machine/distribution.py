"""Training on several devices of a machine with tf.distribute, and Keras' dtype policy."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any


def scope(name: str) -> contextlib.AbstractContextManager[Any]:
    """Return the scope of a strategy, "none" or "mirrored", in which a model must be built."""
    return contextlib.nullcontext() if name == "none" else _mirrored().scope()


@functools.cache  # a network that is trained in two stages has variables of one strategy
def _mirrored() -> Any:
    """Create the strategy over all GPUs of this machine, or its logical CPUs."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    # Logical CPUs let the tests train on two devices of a machine without a GPU.
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(devices)


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Set Keras' dtype policy, which is global, for the layers that are created in the block.

    Args:
        precision: Name of the policy; "auto" is "mixed_float16" with a GPU and "float32" without.
    """
    import keras
    import tensorflow as tf

    if precision == "auto":
        precision = "mixed_float16" if tf.config.list_logical_devices("GPU") else "float32"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
