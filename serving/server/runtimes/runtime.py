"""Runtime for a SavedModel: a graph in its own session, as in TensorFlow Serving.

The TF1 loader and session are deliberate. ``tf.saved_model.load`` restores Python objects and so
runs exports that TensorFlow Serving loads and then cannot run (``tf.saved_model.save`` of a
Keras 3 model: "Could not find variable", https://github.com/tensorflow/tensorflow/issues/72963);
what passes here passes there. A session also gave 1.9 times the throughput of TF2 signatures at 16
clients.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.util import deprecation

from imgpipe.serving.server import status
from imgpipe.serving.server.runtimes import graph_check, saved_model_config

_Ends = tuple[tuple[str, ...], tuple[str, ...]]
"""Names of the inputs and outputs of a run."""
MAX_PREPARED = 64
"""How many combinations of inputs and outputs are kept prepared. Clients choose the combination
with ``output_filter``, so their number must be limited."""
_MAX_TIMEOUT_MS = (1 << 31) - 1


@contextlib.contextmanager
def _path_without_wildcards(directory: Path) -> Iterator[Path]:
    """Yield a path to the folder without ``*``, ``?`` and ``[``.

    TensorFlow's loader reads the path of the variables as a file pattern.
    """
    if set("*?[").isdisjoint(str(directory)):
        yield directory
        return
    temporary = tempfile.gettempdir()
    parent = temporary if set("*?[").isdisjoint(temporary) else "/tmp"
    with tempfile.TemporaryDirectory(prefix="imgpipe-", dir=parent) as folder:
        link = Path(folder) / "model"
        link.symlink_to(directory.absolute(), target_is_directory=True)
        yield link


class Runtime(Protocol):
    """Runs a version: a session, a session behind a batching queue, or TFLite interpreters."""

    signatures: dict[str, Any]
    """SignatureDef by key, as stored in the model."""

    def run(
        self,
        feeds: Sequence[str],
        values: Sequence[np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Compute the tensors named ``fetches``. This method is thread-safe.

        Args:
            feeds: Names of the input tensors.
            values: One array for each name in ``feeds``, with the dtype and shape of its tensor.
            fetches: Names of the tensors to return.
            timeout: Time limit in seconds; None for no limit.

        Returns:
            One array for each name in ``fetches``.
        """

    def close(self) -> None:
        """Free all resources. No call may be running or follow."""


@dataclass(frozen=True)
class SessionOptions:
    """Options of a TensorFlow session. For the numbers of threads, 0 selects a default."""

    intra_op: int = 0
    """Number of threads within an operation. The whole process shares one pool of threads, whose
    size the first session sets."""
    inter_op: int = 0
    """Number of operations that run at the same time."""
    tags: tuple[str, ...] = ("serve",)
    """Tags of the graph to load from the SavedModel."""
    config: bytes = b""
    """A serialised ConfigProto, which the other options override."""
    gpu_memory_fraction: float = 0.0
    """Share of a GPU's memory to allocate at the start; 0 allocates memory as needed."""
    any_op: bool = False
    """Also load graphs that could read and write files; see ``graph_check``."""
    trusted_ops: frozenset[str] = frozenset()
    """Operations that are allowed in addition to those of ``allowed_ops``, such as custom ones."""


def available_cores() -> int:
    """Return the number of cores that this process may use, which the machine may exceed."""
    return len(os.sched_getaffinity(0))


def default_intra_op(cores: int) -> int:
    """Return the default number of threads within an operation: a quarter of the cores.

    Parallel requests already keep the cores busy, and splitting operations slows them down. On 2
    cores, calls with one thread reached 1.0 to 1.4 times the throughput of the model in process at
    its best batch size; calls with two threads reached 0.6 to 0.8 times. A quarter of the cores
    lets a single request on a large machine still use several of them.
    """
    return max(1, cores // 4)


class SessionRuntime:
    """A SavedModel in a TF1 session."""

    def __init__(self, directory: Path, options: SessionOptions | None = None) -> None:
        """Load a SavedModel.

        Args:
            directory: The folder of the SavedModel.
            options: Options of the session, among them the tags of the graph.

        Raises:
            StatusError: The graph contains operations that are not allowed.
            tf.errors.OpError, OSError, ValueError, RuntimeError: TensorFlow's loader fails.
        """
        options = options or SessionOptions()
        if not options.any_op:
            graph_check.check(directory, options.tags, options.trusted_ops)
        config = _session_config(options)
        saved_model_config.apply(directory, config)
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            # TensorFlow deprecates this loader in favour of tf.saved_model.load; the module's
            # docstring says why that one is not used here.
            with (
                graph.as_default(),
                deprecation.silence(),
                _path_without_wildcards(Path(directory)) as path,
            ):
                meta_graph = tf.compat.v1.saved_model.load(
                    self._session, list(options.tags), str(path)
                )
        except BaseException:
            self._session.close()
            raise
        self.signatures = dict(meta_graph.signature_def)
        self._lock = threading.Lock()
        self._callables: OrderedDict[_Ends, Any] = OrderedDict()
        self._endpoints: dict[_Ends, Any] = {}

    def run(
        self,
        feeds: Sequence[str],
        values: Sequence[np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """See ``Runtime.run``. Dtypes are not converted.

        Raises:
            tf.errors.OpError: The graph fails, a type is wrong, or the time is over
                (``DeadlineExceededError``), after which the graph stops between two operations.
            StatusError: INVALID_ARGUMENT, the graph fails with a message that is not UTF-8.
        """
        try:
            return self._run(feeds, values, fetches, timeout)
        except UnicodeDecodeError as error:  # messages of TensorFlow quote the bytes of a request
            message = error.object.decode("utf-8", "replace")
            raise status.invalid(status.tidy(message)) from error

    def _run(
        self,
        feeds: Sequence[str],
        values: Sequence[np.ndarray],
        fetches: Sequence[str],
        timeout: float | None,
    ) -> list[np.ndarray]:
        # A callable has its options, and so its timeout, from when it is made
        # (CallableOptions.run_options). A request with a deadline takes the slower way of
        # Session.run, without its conversion of types.
        key = (tuple(feeds), tuple(fetches))
        endpoints = self._endpoints_of(key) if timeout is not None else None
        if timeout is None or endpoints is None:
            return self._callable(key)(*values)
        sources, targets = endpoints
        milliseconds = min(max(1, int(timeout * 1000)), _MAX_TIMEOUT_MS)
        options = config_pb2.RunOptions(timeout_in_ms=milliseconds).SerializeToString()
        buffer = pywrap_tf_session.TF_NewBufferFromString(options)
        try:
            return pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session,
                buffer,
                dict(zip(sources, map(np.asarray, values), strict=True)),
                targets,
                [],
                None,
            )
        finally:
            pywrap_tf_session.TF_DeleteBuffer(buffer)

    @property
    def prepared(self) -> int:
        """Number of combinations of inputs and outputs that are kept prepared, for both ways.

        At most ``MAX_PREPARED`` are kept for calls with a timeout, and as many for those without.
        """
        return len(self._endpoints) + len(self._callables)

    def _endpoints_of(self, key: _Ends) -> Any:
        """Return the inputs and outputs of the graph for ``key``; None beyond the limit.

        The session keeps an executor for every combination that it ever ran this way. Therefore
        only the first ``MAX_PREPARED`` combinations run with a timeout.
        """
        with self._lock:
            if key not in self._endpoints:
                if len(self._endpoints) >= MAX_PREPARED:
                    return None
                find = self._session.graph.get_tensor_by_name
                ends = [[find(name)._as_tf_output() for name in names] for names in key]
                self._endpoints[key] = ends
            return self._endpoints[key]

    def _callable(self, key: _Ends) -> Any:
        with self._lock:
            if key in self._callables:
                self._callables.move_to_end(key)
                return self._callables[key]
        # Session.run would convert the types of the values and so hide a client's mistake. This
        # callable is stricter and faster, but TensorFlow has no public function for it.
        function = self._session._make_callable_from_options(
            config_pb2.CallableOptions(feed=key[0], fetch=key[1])
        )
        with self._lock:
            # Another thread may have made the same callable meanwhile; either of them will do.
            self._callables[key] = function
            while len(self._callables) > MAX_PREPARED:
                self._callables.popitem(last=False)
        return function

    def close(self) -> None:
        """Close the session and free the model's memory."""
        with self._lock:
            self._callables.clear()
            self._endpoints.clear()
        self._session.close()


def _session_config(options: SessionOptions) -> Any:
    cores = available_cores()
    config = tf.compat.v1.ConfigProto()
    config.allow_soft_placement = True
    config.gpu_options.allow_growth = options.gpu_memory_fraction == 0.0
    config.gpu_options.per_process_gpu_memory_fraction = options.gpu_memory_fraction
    config.MergeFromString(options.config)
    if options.intra_op or not config.intra_op_parallelism_threads:
        config.intra_op_parallelism_threads = options.intra_op or default_intra_op(cores)
    if options.inter_op or not config.inter_op_parallelism_threads:
        config.inter_op_parallelism_threads = options.inter_op or cores
    return config
