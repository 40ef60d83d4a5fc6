"""Training on several devices or machines: the strategies of tf.distribute by name.

For "multi_worker", TensorFlow's collectives must be set up before anything else runs in the
process; `prepare` does this. Every machine runs the same command with its own index in TF_CONFIG.
The gradients of a step are summed over all machines, and all of them end with the same weights.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from imgpipe.models.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

VARIABLE: Final = "TF_CONFIG"


def prepare(name: str) -> None:
    """Create the strategy "multi_worker" before TensorFlow runs anything; others need no such call.

    Raises:
        ConfigError: The strategy is "multi_worker", and TF_CONFIG is missing or not usable.
        ResourceError: TensorFlow has already run something in this process.
    """
    if name == "multi_worker":
        _multi_worker()


def scope(name: str) -> contextlib.AbstractContextManager[Any]:
    """Return the scope of a strategy, in which a model must be built and compiled.

    Args:
        name: "none", "mirrored" or "multi_worker", for which the errors are those of `prepare`.
    """
    if name == "none":
        return contextlib.nullcontext()
    if name == "multi_worker":
        return _multi_worker().scope()
    return _mirrored().scope()


@functools.cache  # a network that is trained in two stages has variables of one strategy
def _mirrored() -> Any:
    """Create the strategy over all GPUs of this machine, or its logical CPUs."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    # Logical CPUs let the tests train on two devices of a machine without a GPU.
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(devices)


@functools.cache  # a process can set up the collectives once only
def _multi_worker() -> Any:
    """Create the strategy, which waits until all workers are connected."""
    import tensorflow as tf

    try:
        index = int(json.loads(os.environ[VARIABLE])["task"]["index"])
    except (KeyError, ValueError, TypeError):
        index = -1
    if not 0 <= index < len(_workers()):
        raise ConfigError(
            f"train.strategy: multi_worker needs {VARIABLE} in the environment, such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", '
            f'"index": 0}}}}. Received: {os.environ.get(VARIABLE, "nothing")!r}'
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ResourceError(
            "train.strategy: multi_worker must be set up before TensorFlow runs anything "
            f"({str(error).splitlines()[0]}). Run it in a process of its own"
        ) from error


def _workers() -> list[Any]:
    """Return the addresses of the workers; none if the environment does not name them."""
    try:
        return list(json.loads(os.environ[VARIABLE])["cluster"]["worker"])
    except (KeyError, ValueError, TypeError):
        return []


def let_keras_fit(model: keras.Model, dataset: tf.data.Dataset) -> None:
    """Make `fit` work with several workers, which Keras 3.15 fails at (keras-team/keras#20585).

    Keras averages values over an axis that they do not have: the first batch, from which it builds
    the metrics, and the metrics of each step. Here the compiled model is built from a batch of this
    worker instead, and the metrics stay those of each worker until `agreed` averages them. Call
    this function in the strategy's scope.
    """
    from keras.src.backend.tensorflow import trainer

    trainer._collective_all_reduce_multi_worker = lambda _: False
    model._symbolic_build(data_batch=next(iter(dataset.take(1))))
    model._maybe_symbolic_build = lambda **_: None


def agreed(values: Mapping[str, float], name: str) -> dict[str, float]:
    """Return the mean of each value over the workers of a strategy, so that they decide alike."""
    if name != "multi_worker" or len(_workers()) == 1:
        return dict(values)
    import tensorflow as tf

    strategy = _multi_worker()
    # TensorFlow adds one value of each worker, however many devices a worker has.
    *sums, workers = strategy.reduce(
        "SUM", tf.constant([*values.values(), 1.0], tf.float64), axis=None
    ).numpy()
    return {key: float(total / workers) for key, total in zip(values, sums, strict=True)}


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
