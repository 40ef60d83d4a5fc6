"""Runtime for a SavedModel: a graph in its own session, as in TensorFlow Serving.

The TF1 loader and session are deliberate. `tf.saved_model.load` restores Python objects and so
runs exports that TensorFlow Serving loads and then cannot run (`tf.saved_model.save` of a
Keras 3 model: "Could not find variable", https://github.com/tensorflow/tensorflow/issues/72963);
what passes here passes there. A session also gave 1.9 times the throughput of TF2 signatures at 16
clients.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.util import deprecation

from imgpipe.models.files.described_files import MODEL_DIGEST, SERVING_DEFAULT
from imgpipe.models.machine.process import has_gpu
from imgpipe.models.machine.system import processors
from imgpipe.serving import tensors
from imgpipe.serving.server import status
from imgpipe.serving.server.status import Code, StatusError

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

    Attributes:
        signatures: SignatureDef by key, as stored in the model.
        by_row: Whether each row of an input is computed alone, so that rows may be divided.
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
        # Only of a model of imgpipe is it known that it computes each row alone, and that on a CPU
        # it gains nothing when TensorFlow rewrites its graph; see docs/benchmarks.md, "Constants
        # of the code".
        self.by_row = (directory / MODEL_DIGEST).is_file()
        rewriting = config.graph_options.rewrite_options
        rewriting.disable_meta_optimizer = self.by_row and not has_gpu()
        # A second pass over another graph makes nothing faster, and doubles the time of `prepare`.
        rewriting.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
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
        self.is_kept = False
        self._prepared: dict[str, Callable[..., list[Any]]] = {}
        self._preparing = {key: threading.Lock() for key in self.signatures}

    def prepare(self) -> None:
        """Prepare all signatures that can be asked, so that no request waits for it."""
        with ThreadPoolExecutor(calls_at_once()) as threads:
            list(threads.map(self._callable, filter(self.can_be_asked, self.signatures)))

    def can_be_asked(self, key: str) -> bool:
        """Return whether there is a signature of this name with tensors as inputs and outputs.

        That by which a SavedModel is initialised names operations instead.
        """
        signature = self.signatures.get(key)
        if signature is None:
            return False
        return all(info.dtype for info in (*signature.inputs.values(), *signature.outputs.values()))

    def run(self, key: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a signature on the value of each input, and return all of its outputs by name.

        Threads may share it. Dtypes are not converted.

        Raises:
            tf.errors.OpError: The graph fails, or a type is wrong.
            StatusError: INVALID_ARGUMENT, the graph fails with a message that is not UTF-8.
        """
        signature = self.signatures[key]
        values = [inputs[name] for name in sorted(signature.inputs)]
        try:
            fetched = self._callable(key)(*values)
        except UnicodeDecodeError as error:  # messages of TensorFlow quote the bytes of a request
            message = error.object.decode("utf-8", "replace")
            raise status.invalid(status.tidy(message)) from error
        # A session returns a string of shape [] as plain `bytes`.
        arrays = (v if isinstance(v, np.ndarray) else tensors.as_array(v) for v in fetched)
        by_tensor = dict(zip(_fetched(signature), arrays, strict=True))
        return {name: by_tensor[info.name] for name, info in signature.outputs.items()}

    def answer(self, key: str = SERVING_DEFAULT, /, **inputs: Any) -> dict[str, np.ndarray]:
        """Run a signature once on inputs by name, on all cores.

        A session computes each call on a quarter of the cores (`default_intra_op`). Therefore the
        rows of a model of imgpipe are divided into as many calls as the cores compute at once.
        """
        infos = self.signatures[key].inputs
        columns = {name: _array(value, infos[name].dtype) for name, value in inputs.items()}
        first = next(iter(columns))
        rows = tensors.row_count(columns[first], infos[first])
        count = 1
        if self.by_row and rows:
            count = max(1, min(calls_at_once(), rows))
        if count == 1:
            return self.run(key, columns)
        divided = [np.array_split(column, count) for column in columns.values()]
        parts = [dict(zip(columns, part, strict=True)) for part in zip(*divided, strict=True)]
        with ThreadPoolExecutor(count) as threads:
            pieces = list(threads.map(functools.partial(self.run, key), parts))
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _callable(self, key: str) -> Callable[..., list[Any]]:
        """Return a function of the inputs of a signature that returns its outputs, each by name.

        `Session.run` would convert the types of the values and so hide a client's mistake. This
        callable is stricter and faster, but TensorFlow has no public function for it. To make one
        takes up to a second where TensorFlow rewrites the graph.
        """
        with self._preparing[key]:
            if key not in self._prepared:
                signature = self.signatures[key]
                options = config_pb2.CallableOptions(
                    feed=[signature.inputs[name].name for name in sorted(signature.inputs)],
                    fetch=_fetched(signature),
                )
                self._prepared[key] = self._session._make_callable_from_options(options)
            return self._prepared[key]

    def close(self) -> None:
        """Free the model's memory, unless `is_kept`. No call may be running or follow."""
        if self.is_kept:
            return
        self._prepared.clear()
        self._session.close()


def _array(value: Any, number: int) -> np.ndarray:
    dtype = tensors.dtype_of(number)
    return np.asarray(value, dtype.numpy if dtype else None)


def _fetched(signature: Any) -> list[str]:
    """Return the names of the tensors of all outputs, of which several may be the same."""
    return sorted({info.name for info in signature.outputs.values()})


def _refuse_python(graph: Any) -> None:
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    calls = sorted({node.op for node in nodes} & _PYTHON)
    if calls:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            f"The graph calls Python functions ({', '.join(calls)}), which exist only in the "
            "process that made it. Export the model with TensorFlow operations only.",
        )
