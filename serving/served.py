"""Calls of one signature of a model in this process, with the session that a server uses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.models.files.described_files import SERVING_DEFAULT
from imgpipe.serving import tensors

if TYPE_CHECKING:
    from imgpipe.serving.server.runtime import Runtime


class Served:
    """One signature of a SavedModel, with some of its outputs, or all of them.

    A `runtime` is the model as a server has loaded it, which stays open.
    """

    def __init__(
        self,
        directory: str,
        signature: str = SERVING_DEFAULT,
        outputs: Collection[str] | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self._owned = runtime is None
        if runtime is None:
            from imgpipe.serving.server.runtime import Runtime

            runtime = Runtime(Path(directory))
        self._runtime = runtime
        self._signature = signature
        self._definition = runtime.signatures[signature]
        self._outputs = set(self._definition.outputs if outputs is None else outputs)

    def run(self, **inputs: Any) -> dict[str, np.ndarray]:
        """Run the signature once.

        A session computes each request on a quarter of the cores (`runtime.default_intra_op`).
        Therefore the rows of a model of imgpipe are divided into as many requests as the cores
        compute at the same time.
        """
        from imgpipe.serving.server.runtime import calls_at_once

        infos = self._definition.inputs
        columns = {name: _array(value, infos[name].dtype) for name, value in inputs.items()}
        first = next(iter(columns))
        rows = tensors.row_count(columns[first], infos[first])
        count = 1
        if self._runtime.by_row and rows:
            count = max(1, min(calls_at_once(), rows))
        if count == 1:
            return self._answered(columns)
        divided = [np.array_split(column, count) for column in columns.values()]
        parts = [dict(zip(columns, part, strict=True)) for part in zip(*divided, strict=True)]
        with ThreadPoolExecutor(count) as threads:
            pieces = list(threads.map(self._answered, parts))
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _answered(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = self._runtime.run(self._signature, inputs)
        return {name: value for name, value in answers.items() if name in self._outputs}

    def close(self) -> None:
        """Free the session, unless another object owns it."""
        if self._owned:
            self._runtime.close()


def _array(value: Any, number: int) -> np.ndarray:
    dtype = tensors.dtype_of(number)
    return np.asarray(value, dtype.numpy if dtype else None)
