"""One loaded SavedModel, run as TensorFlow Serving runs it: a graph in a session of its own.

The TF1 loader and session are on purpose. ``tf.saved_model.load`` restores Python objects and so
runs exports that TensorFlow Serving loads and then cannot run (``tf.saved_model.save`` of a
Keras 3 model: "Could not find variable"); what passes here passes there. A session also gave 1.9
times the throughput of TF2 signatures at 16 clients.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.util import deprecation

_MAX_CALLABLES = 64
"""Sets of (inputs, outputs) kept ready; clients choose them by output_filter, so it is bounded."""


class Runtime(Protocol):
    """What runs a version. The session below is one; an interpreter for int8 would be another."""

    signatures: dict[str, Any]
    """SignatureDef by key, as stored in the model."""

    def run(
        self, feeds: Sequence[str], values: Sequence[np.ndarray], fetches: Sequence[str]
    ) -> list[np.ndarray]:
        """Values of the tensors named ``fetches``; thread-safe."""

    def close(self) -> None:
        """Free everything; nothing runs any more."""


def available_cores() -> int:
    """Cores that this process may use (not those of the machine)."""
    return len(os.sched_getaffinity(0))


class SessionRuntime:
    """A SavedModel in a TF1 session."""

    def __init__(self, directory: Path, intra_op: int = 0, inter_op: int = 0) -> None:
        """Load the ``serve`` graph of ``directory``.

        Args:
            intra_op: threads within an operation, 0 for the cores this process may use. A pool is
                shared by the whole process, whose first session sets its size.
            inter_op: operations at once, 0 for the same.

        Raises:
            tf.errors.OpError, OSError, ValueError, RuntimeError: as TensorFlow's loader finds.
        """
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op or available_cores(),
            inter_op_parallelism_threads=inter_op or available_cores(),
            allow_soft_placement=True,
        )
        config.gpu_options.allow_growth = True
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            # The loader is deprecated in favour of the one that must not be used here.
            with graph.as_default(), deprecation.silence():
                meta_graph = tf.compat.v1.saved_model.load(
                    self._session, [tf.saved_model.SERVING], str(directory)
                )
        except BaseException:
            self._session.close()
            raise
        self.signatures = dict(meta_graph.signature_def)
        self._lock = threading.Lock()
        self._callables: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], Any] = OrderedDict()

    def run(
        self, feeds: Sequence[str], values: Sequence[np.ndarray], fetches: Sequence[str]
    ) -> list[np.ndarray]:
        """Values of the tensors ``fetches`` with ``feeds`` set to ``values``.

        The types of ``values`` are not converted: a wrong one is the session's own error.
        """
        return self._callable(tuple(feeds), tuple(fetches))(*values)

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
        key = (feeds, fetches)
        with self._lock:
            if key in self._callables:
                self._callables.move_to_end(key)
                return self._callables[key]
        # Session.run would convert the types of the values, and so hide a client's mistake;
        # there is no public way to the faster and stricter callable.
        made = self._session._make_callable_from_options(
            config_pb2.CallableOptions(feed=feeds, fetch=fetches)
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
        self._session.close()
