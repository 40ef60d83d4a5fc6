"""Training on several devices or machines: tf.distribute's strategies by name.

"multi_worker" needs TensorFlow's collectives to be set up before anything else has run in the
process, hence `prepare`. Every machine runs the same command with its own place in TF_CONFIG; the
gradients of a step are summed over all of them, and all end with the same weights.
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
    """Creates the strategy before TensorFlow runs anything; a second call does nothing.

    Raises:
        ConfigError: "multi_worker" without a usable TF_CONFIG.
        ResourceError: TensorFlow has already run something in this process.
    """
    if name == "multi_worker":
        _multi_worker()


def scope(name: str) -> contextlib.AbstractContextManager[Any]:
    """Returns the scope in which to build and compile a model of the strategy with that name.

    Args:
        name: "none", "mirrored" or "multi_worker".

    Raises:
        ConfigError: "multi_worker" without a usable TF_CONFIG.
        ResourceError: The other workers do not answer, or TensorFlow has run something already.
    """
    import tensorflow as tf

    if name == "none":
        return contextlib.nullcontext()
    if name == "multi_worker":
        return _multi_worker().scope()
    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(devices).scope()


@functools.cache
def _multi_worker() -> Any:
    """Waits until all workers are there."""
    import tensorflow as tf

    try:
        task = json.loads(os.environ[VARIABLE])
        workers = list(task["cluster"]["worker"])
        index = int(task["task"]["index"])
    except (KeyError, ValueError, TypeError):
        workers, index = [], -1
    if not 0 <= index < len(workers):
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


def let_keras_fit(model: keras.Model, dataset: tf.data.Dataset) -> None:
    """Make `fit` work with several workers, which Keras 3.15 fails at (keras-team/keras#20585).

    It takes means over an axis that its values do not have: of the first batch, to build metrics
    from, and of each step's metrics. The first is built here from a batch of this worker, the
    others stay each worker's own until `agreed`. Called in the strategy's scope, after `compile`.
    """
    from keras.src.backend.tensorflow import trainer

    trainer._collective_all_reduce_multi_worker = lambda _: False
    model._symbolic_build(data_batch=next(iter(dataset.take(1))))
    model._maybe_symbolic_build = lambda **_: None


def agreed(values: Mapping[str, float], name: str) -> dict[str, float]:
    """Returns the mean of each value over all workers, so that all of them decide alike."""
    if name != "multi_worker":
        return dict(values)
    import tensorflow as tf

    strategy = _multi_worker()
    total = strategy.reduce("SUM", tf.constant(list(values.values()), tf.float64), axis=None)
    return dict(zip(values, (total / strategy.num_replicas_in_sync).numpy().tolist(), strict=True))


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Keras' dtype policy for layers made in the block; "auto" looks for a GPU.

    The policy is global: it is put back afterwards.
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
