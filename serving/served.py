"""Calls of one signature of a model in this process, with the session that a server uses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.models.files.described_files import SERVING_DEFAULT
from imgpipe.serving import tensors

if TYPE_CHECKING:
    from imgpipe.serving.server.runtime import Runtime


class Served:
    """One signature of a SavedModel.

    Args:
        directory: Folder of the SavedModel.
        signature: Name of the signature.
        outputs: Names of the outputs to compute; None computes all of them.
        runtime: The model as a server has loaded it, which stays open; None loads it.
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
        definition = runtime.signatures[signature]
        self._inputs = dict(definition.inputs)
        wanted = definition.outputs if outputs is None else outputs
        self._outputs = {name: definition.outputs[name].name for name in wanted}
        # In the order in which a server fetches them, so that its prepared call is used again.
        self._fetches = sorted(set(self._outputs.values()))

    def run(self, **inputs: Any) -> dict[str, Any]:
        """Run the signature once.

        A session computes each request on a quarter of the cores (`runtime.default_intra_op`).
        Therefore the rows of a model of imgpipe are divided into as many requests as the cores
        compute at the same time.

        Args:
            **inputs: Value of each input of the signature, by its name.

        Returns:
            The outputs by name, as numpy arrays.
        """
        from imgpipe.serving.server.runtime import calls_at_once

        feeds = [self._inputs[name].name for name in inputs]
        columns = [_array(value, self._inputs[name].dtype) for name, value in inputs.items()]
        count = 1
        rows = tensors.row_count(columns[0], self._inputs[next(iter(inputs))])
        if self._runtime.by_row and rows:
            count = max(1, min(calls_at_once(), rows))

        def answered(part: Sequence[np.ndarray]) -> list[np.ndarray]:
            return self._runtime.run(feeds, part, self._fetches)

        if count == 1:
            values = answered(columns)
        else:
            parts = zip(*(np.array_split(column, count) for column in columns), strict=True)
            with ThreadPoolExecutor(count) as threads:
                pieces = zip(*threads.map(answered, parts), strict=True)
                values = [np.concatenate(rows) for rows in pieces]
        by_tensor = dict(zip(self._fetches, values, strict=True))
        return {name: by_tensor[tensor] for name, tensor in self._outputs.items()}

    def close(self) -> None:
        """Free the session, unless another object owns it."""
        if self._owned:
            self._runtime.close()


def _array(value: Any, number: int) -> np.ndarray:
    dtype = tensors.dtype_of(number)
    return np.asarray(value, dtype.numpy if dtype else None)
