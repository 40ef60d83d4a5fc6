"""Runtime for a SavedModel: a graph in its own session, as in TensorFlow Serving.

The TF1 loader and session are deliberate. `tf.saved_model.load` restores Python objects and so
runs exports that TensorFlow Serving loads and then cannot run (`tf.saved_model.save` of a
Keras 3 model: "Could not find variable", https://github.com/tensorflow/tensorflow/issues/72963);
what passes here passes there. A session also gave 1.9 times the throughput of TF2 signatures at 16
clients.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.util import deprecation

from imgpipe.models.files.described_files import MODEL_DIGEST
from imgpipe.models.machine.system import processors
from imgpipe.serving.server import status
from imgpipe.serving.server.status import Code, StatusError

MAX_PREPARED = 64
"""How many combinations of inputs and outputs are kept prepared. Clients choose the combination
with `output_filter`, so their number must be limited."""
_PYTHON = frozenset(["PyFunc", "PyFuncStateless", "EagerPyFunc"])
"""Operations that call a Python function of the process that made the graph."""


def default_intra_op(cores: int) -> int:
    """Return the number of threads within an operation: a quarter of the cores.

    Parallel requests already keep the cores busy, and splitting operations slows them down. On 2
    cores, calls with one thread reached 1.0 to 1.4 times the throughput of the model in process at
    its best batch size; calls with two threads reached 0.6 to 0.8 times. A quarter of the cores
    lets a single request on a large machine still use several of them.
    """
    return max(1, cores // 4)


def calls_at_once() -> int:
    """Return the number of calls of a session that the cores compute at the same time."""
    cores = processors()
    return cores // default_intra_op(cores)


class Runtime:
    """A SavedModel in a TF1 session.

    Args:
        directory: The folder of the SavedModel.

    Attributes:
        signatures: SignatureDef by key, as stored in the model.
        by_row: Whether each row of an input is computed alone, so that a few rows may run at once.
        is_kept: Whether `close` leaves the session open, because others still use it.

    Raises:
        StatusError: FAILED_PRECONDITION, the graph calls Python functions, which no server has.
        tf.errors.OpError, OSError, ValueError, RuntimeError: TensorFlow's loader fails.
    """

    def __init__(self, directory: Path) -> None:
        cores = processors()
        config = tf.compat.v1.ConfigProto(
            allow_soft_placement=True,
            intra_op_parallelism_threads=default_intra_op(cores),
            inter_op_parallelism_threads=cores,
        )
        config.gpu_options.allow_growth = True
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            # TensorFlow deprecates this loader in favour of tf.saved_model.load; the module's
            # docstring says why that one is not used here.
            with graph.as_default(), deprecation.silence():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(directory))
            _refuse_python(meta_graph.graph_def)
        except BaseException:
            self._session.close()
            raise
        self.signatures = dict(meta_graph.signature_def)
        # Only of a model of imgpipe is it known that it computes each row alone.
        self.by_row = (directory / MODEL_DIGEST).is_file()
        self.is_kept = False
        prepared = functools.partial(_prepared, self._session)
        self._prepared = functools.lru_cache(MAX_PREPARED)(prepared)

    def run(
        self, feeds: Sequence[str], values: Sequence[np.ndarray], fetches: Sequence[str]
    ) -> list[np.ndarray]:
        """Return the tensors named `fetches` for values of those named `feeds`; thread-safe.

        Dtypes are not converted.

        Raises:
            tf.errors.OpError: The graph fails, or a type is wrong.
            StatusError: INVALID_ARGUMENT, the graph fails with a message that is not UTF-8.
        """
        try:
            return self._prepared(tuple(feeds), tuple(fetches))(*values)
        except UnicodeDecodeError as error:  # messages of TensorFlow quote the bytes of a request
            message = error.object.decode("utf-8", "replace")
            raise status.invalid(status.tidy(message)) from error

    def close(self) -> None:
        """Free the model's memory, unless `is_kept`. No call may be running or follow."""
        if self.is_kept:
            return
        self._prepared.cache_clear()
        self._session.close()


def _prepared(session: Any, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
    """Return a function of the values of `feeds` that returns those of `fetches`.

    `Session.run` would convert the types of the values and so hide a client's mistake. This
    callable is stricter and faster, but TensorFlow has no public function for it.
    """
    return session._make_callable_from_options(
        config_pb2.CallableOptions(feed=feeds, fetch=fetches)
    )


def _refuse_python(graph: Any) -> None:
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    calls = sorted({node.op for node in nodes} & _PYTHON)
    if calls:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            f"The graph calls Python functions ({', '.join(calls)}), which exist only in the "
            "process that made it. Export the model with TensorFlow operations only.",
        )
