"""This process: its libraries and threads, and the devices on which it trains."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from imgpipe.models.machine import progress, system

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from threadpoolctl import ThreadpoolController

_BATCHES = 4  # that are computed at the same time, at most; each takes memory
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def device_scope(name: str) -> contextlib.AbstractContextManager[Any]:
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
def dtype_policy(precision: str) -> Iterator[None]:
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


def prefer_batches() -> None:
    """Let TensorFlow compute batches faster in this process and in those that it starts.

    TensorFlow uses oneDNN by itself only on some processors, such as those with AVX-512. On the
    others, features take less time with it. A single image, as a server gets it, may take longer;
    see docs/benchmarks.md, "Constants of the code".

    TensorFlow decides when it is imported. Where it is imported already, nothing is changed, so
    that all processes of a run compute in the same way.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Import large libraries in the block without Python's garbage collector.

    TensorFlow, TFX and their libraries create a million objects that stay until the process ends.
    To visit these again and again takes a third of the time of the imports. Nothing is changed
    where TensorFlow is already imported, so that a program that calls imgpipe again and again goes
    on collecting its own objects. In a notebook, where TensorFlow logs each model that it reads or
    writes, only its warnings are shown.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if "tensorflow" in sys.modules:
            sys.modules["tensorflow"].get_logger().setLevel(logging.WARNING)
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def load_tensorflow() -> None:
    """Import TensorFlow, in a step of its own where a display shows steps."""
    with progress.step("loading TensorFlow"), quick_imports():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Use one thread for the linear algebra of NumPy and SciPy in the block.

    OpenBLAS uses as many threads as there are cores. On small matrices these wait for each other,
    which costs more processor time than it saves. With one thread, sums and thus results do not
    depend on the number of cores either; the rounding still depends on the kernel that OpenBLAS
    chooses for the processor.
    """
    with _thread_pools().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """Return the thread pools of the loaded libraries. To find them takes milliseconds."""
    import scipy.linalg  # noqa: F401 - SciPy brings an OpenBLAS of its own, which must be loaded
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def has_gpu() -> bool:
    """Return whether TensorFlow will use a GPU. Without a device file, it is not imported."""
    if not system.has_gpu_device():
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


@functools.cache
def images_at_once() -> int:
    """Return the number of images that a network computes at once.

    The activations of few images stay in the caches of a processor: EfficientNet-Lite0 needs a
    sixth less time for an image in a batch of 8 than in one of 32. A GPU needs larger batches.
    """
    return 32 if has_gpu() else 8


def batches_at_once(network: keras.Model) -> int:
    """Return the number of batches that threads compute at the same time with a network.

    Most operations of a small convolutional network are too short to be divided among the cores, so
    that each core computes a batch of its own in two thirds of the time. A GPU has one queue.
    TensorFlow 2.21 crashed when two threads called a vision transformer in bfloat16, so that a
    network with other kernels than those of convolutions computes one batch at a time.
    """
    convolves = all(len(weight.shape) in (1, 4) for weight in network.weights)
    return min(system.processors(), _BATCHES) if convolves and not has_gpu() else 1


def computed_ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int, ahead: int
) -> Generator[_Result]:
    """Yield `function(item)` for each item, in their order, while threads compute the next ones.

    Args:
        function: Function of one item. Its first error ends the iteration.
        items: The items.
        threads: Number of threads.
        ahead: Number of results, at most, that are computed before they are asked for.
    """
    pool = ThreadPoolExecutor(threads, "ahead")
    begun: deque[Future[_Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for items that have not begun


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return a dataset without the thread with which tf.data searches for its best parallelism.

    This thread sleeps for periods that double, up to a minute, and the deletion of an iterator may
    wait for the end of one. With TensorFlow 2.21, this made a training of 25 seconds up to 17
    seconds longer, in every second trial. AUTOTUNE is the number of processors then.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def lacking(error: Exception) -> Literal["memory", "disk"] | None:
    """Return what the machine had not enough of; None for another error."""
    import tensorflow as tf

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    # TensorFlow raises ResourceExhaustedError for both.
    lacks_memory = isinstance(error, MemoryError | tf.errors.ResourceExhaustedError)
    return "memory" if lacks_memory else None
