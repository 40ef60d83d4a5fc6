"""The exported model as ServingValidator has loaded it, for later components in the same process.

On one machine all components run in one process. Predictor and Report then use the session that
ServingValidator has checked, and do not load the model again, which saves a second. On Kubeflow
Pipelines and on Beam's workers each component has its own process and loads the model itself. At
most one model is kept, and it is closed at the end of the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.components.storage import manifest
from imgpipe.models.export.served_model import Served
from imgpipe.models.export.signatures import SERVING_DEFAULT
from imgpipe.serving.server.runtime import Runtime, available_cores, default_intra_op

Files = Mapping[str, Mapping[str, Any]]

#: The model that is kept, with its files; empty if there is none.
_kept: list[tuple[Files, Runtime]] = []


class _Shared:
    """A runtime that stays open when the server that uses it stops."""

    def __init__(self, runtime: Runtime) -> None:
        self.signatures, self.run, self.by_row = runtime.signatures, runtime.run, runtime.by_row

    def close(self) -> None:
        """Leave the runtime open; `drop` closes it."""


def keep(files: Files) -> Callable[[Runtime], Runtime]:
    """Return a wrapper with which a server leaves the model open that it loads.

    Args:
        files: Files of the model, as `manifest.describe` returns them.

    Returns:
        A function for `ModelServer`.
    """

    def wrap(runtime: Runtime) -> Runtime:
        drop()
        _kept.append((files, runtime))
        return _Shared(runtime)

    return wrap


def drop() -> None:
    """Close the model that is kept, if there is one."""
    while _kept:
        _kept.pop()[1].close()


@contextlib.contextmanager
def dropped_at_end() -> Iterator[None]:
    """Close the model that is kept when the block ends."""
    try:
        yield
    finally:
        drop()


def served(
    directory: str, outputs: Collection[str], signature: str = SERVING_DEFAULT
) -> Served | KeptSignature:
    """Return a signature of a model, which is loaded unless it is kept.

    Args:
        directory: Folder of the SavedModel.
        outputs: Names of the outputs that are wanted.
        signature: Name of the signature.
    """
    for files, runtime in _kept:
        if files == manifest.describe(Path(directory)):
            return KeptSignature(runtime, signature)
    return Served(directory, signature, outputs)


class KeptSignature:
    """A signature of the model that is kept, with the methods of `Served`."""

    def __init__(self, runtime: Runtime, signature: str) -> None:
        self._runtime, self._signature = runtime, runtime.signatures[signature]
        # All outputs, and in this order, because the server has asked for the same.
        self._fetches = sorted({info.name for info in self._signature.outputs.values()})

    def run(self, **inputs: Any) -> dict[str, Any]:
        """Run the signature, which gives a row for each image; see `Served.run`.

        The session of a server computes each request on a quarter of the cores, as
        `runtime.default_intra_op` says. Therefore the images are divided into as many requests as
        the cores compute at the same time.
        """
        feeds = [self._signature.inputs[name].name for name in inputs]
        columns = [np.asarray(value, object) for value in inputs.values()]
        cores = available_cores()
        count = max(1, min(cores // default_intra_op(cores), len(columns[0])))
        parts = zip(*(np.array_split(column, count) for column in columns), strict=True)
        with ThreadPoolExecutor(count) as threads:
            found = threads.map(lambda part: self._runtime.run(feeds, part, self._fetches), parts)
            rows = [np.concatenate(column) for column in zip(*found, strict=True)]
        by_tensor = dict(zip(self._fetches, rows, strict=True))
        return {name: by_tensor[info.name] for name, info in self._signature.outputs.items()}

    def close(self) -> None:
        """Leave the model open for others; `drop` closes it."""
