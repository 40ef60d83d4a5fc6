"""Runtime for a SavedModel: a graph in its own session, as in TensorFlow Serving.

The TF1 loader and session are deliberate. ``tf.saved_model.load`` restores Python objects and so
runs exports that TensorFlow Serving loads and then cannot run (``tf.saved_model.save`` of a
Keras 3 model: "Could not find variable"); what passes here passes there. A session also gave 1.9
times the throughput of TF2 signatures at 16 clients.
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

from imgpipe.serving.server import graph_check, saved_model_config

_MAX_CALLABLES = 64
"""Sets of (inputs, outputs) kept ready; clients choose them by output_filter, so it is bounded."""
_MAX_TIMEOUT_MS = (1 << 31) - 1


@contextlib.contextmanager
def _plain_name(directory: Path) -> Iterator[Path]:
    """Yield a path to the folder without ``*``, ``?`` and ``[``.

    TensorFlow's loader reads the path of the variables as a file pattern.
    """
    if set("*?[").isdisjoint(str(directory)):
        yield directory
        return
    usual = tempfile.gettempdir()
    place = usual if set("*?[").isdisjoint(usual) else "/tmp"
    with tempfile.TemporaryDirectory(prefix="imgpipe-", dir=place) as folder:
        link = Path(folder) / "model"
        link.symlink_to(directory.absolute(), target_is_directory=True)
        yield link


class Runtime(Protocol):
    """What runs a version: a session, a session behind a batcher, or int8 interpreters."""

    signatures: dict[str, Any]
    """SignatureDef by key, as stored in the model."""

    def run(
        self,
        feeds: Sequence[str],
        values: Sequence[np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Values of the tensors named ``fetches``; thread-safe; ends after ``timeout`` s."""

    def close(self) -> None:
        """Free everything; nothing runs any more."""


@dataclass(frozen=True)
class SessionOptions:
    """How a session is made; 0 means chosen for this machine."""

    intra_op: int = 0
    """Threads within an operation. The pool is shared by the whole process, whose first session
    sets its size."""
    inter_op: int = 0
    """Operations at once."""
    tags: tuple[str, ...] = ("serve",)
    """The graph of the SavedModel."""
    config: bytes = b""
    """A serialised ConfigProto that the rest is laid over."""
    gpu_memory_fraction: float = 0.0
    """Share of a GPU's memory taken at once; 0 grows as needed."""
    any_op: bool = False
    """Also load graphs that could read and write files; see ``graph_check``."""
    trusted_ops: frozenset[str] = frozenset()
    """Operations that a graph may run besides those on the list, such as custom ones."""


def available_cores() -> int:
    """Cores that this process may use (not those of the machine)."""
    return len(os.sched_getaffinity(0))


def default_intra_op(cores: int) -> int:
    """Threads within an operation: a quarter of the cores, at least one.

    Requests run side by side, so cores are kept busy by them and not by splitting one: with one
    thread a session call per request reached 1.0 to 1.4 times the throughput of the model in
    process at its best batch on 2 cores, with both 0.6 to 0.8. A quarter keeps a lone request on
    a large machine from running on one core of many.
    """
    return max(1, cores // 4)


class SessionRuntime:
    """A SavedModel in a TF1 session."""

    def __init__(self, directory: Path, options: SessionOptions | None = None) -> None:
        """Load the graph of ``directory`` that bears the options' tags.

        Raises:
            StatusError: the graph holds operations that are refused.
            tf.errors.OpError, OSError, ValueError, RuntimeError: as TensorFlow's loader finds.
        """
        options = options or SessionOptions()
        if not options.any_op:
            graph_check.check(directory, options.tags, options.trusted_ops)
        config = _session_config(options)
        saved_model_config.apply(directory, config)
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            # The loader is deprecated in favour of the one that must not be used here.
            with (
                graph.as_default(),
                deprecation.silence(),
                _plain_name(Path(directory)) as place,
            ):
                meta_graph = tf.compat.v1.saved_model.load(
                    self._session, list(options.tags), str(place)
                )
        except BaseException:
            self._session.close()
            raise
        self.signatures = dict(meta_graph.signature_def)
        self._lock = threading.Lock()
        self._callables: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], Any] = OrderedDict()
        self._endpoints: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}

    def run(
        self,
        feeds: Sequence[str],
        values: Sequence[np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Values of the tensors ``fetches`` with ``feeds`` set to ``values``.

        The types of ``values`` are not converted: a wrong one is the session's own error. After
        ``timeout`` s the graph is stopped between two operations (DEADLINE_EXCEEDED).
        """
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

    def _endpoints_of(self, key: tuple[tuple[str, ...], tuple[str, ...]]) -> Any:
        """The graph's ends of ``key``; None beyond the bound.

        The session keeps an executor for every set that it ever ran this way, so only the first
        ones run with a timeout; the callables of the others are let go again.
        """
        with self._lock:
            if key not in self._endpoints:
                if len(self._endpoints) >= _MAX_CALLABLES:
                    return None
                find = self._session.graph.get_tensor_by_name
                ends = [[find(name)._as_tf_output() for name in names] for names in key]
                self._endpoints[key] = ends
            return self._endpoints[key]

    def _callable(self, key: tuple[tuple[str, ...], tuple[str, ...]]) -> Any:
        with self._lock:
            if key in self._callables:
                self._callables.move_to_end(key)
                return self._callables[key]
        # Session.run would convert the types of the values, and so hide a client's mistake;
        # there is no public way to the faster and stricter callable.
        made = self._session._make_callable_from_options(
            config_pb2.CallableOptions(feed=key[0], fetch=key[1])
        )
        with self._lock:
            self._callables[key] = made
            while len(self._callables) > _MAX_CALLABLES:
                self._callables.popitem(last=False)
        return made

    def close(self) -> None:
        """End the session and free the model's memory."""
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
