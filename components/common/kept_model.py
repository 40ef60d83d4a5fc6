"""The exported model as ServingValidator has loaded it, for later components in the same process.

On one machine all components run in one process. ImageEvaluator and Report then use the session
that ServingValidator has checked, and do not load the model again, which saves a second. On
Kubeflow Pipelines and on Beam's workers each component has its own process and loads the model
itself. At most one model is kept, and it is closed at the end of the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from imgpipe.components.common.storage import manifest
from imgpipe.models.files.described_files import DescribedFiles
from imgpipe.serving.server.runtime import Runtime

#: The model that is kept, with its files; empty if there is none.
_kept: list[tuple[DescribedFiles, Runtime]] = []


def keep(files: DescribedFiles) -> Callable[[Runtime], None]:
    """Return a function for `ModelServer`, by which the model that it loads stays open.

    `files` are the files of the model, as `manifest.describe` returns them.
    """

    def loaded(runtime: Runtime) -> None:
        drop()
        runtime.is_kept = True
        _kept.append((files, runtime))

    return loaded


def drop() -> None:
    """Close the model that is kept, if there is one."""
    while _kept:
        _, runtime = _kept.pop()
        runtime.is_kept = False
        runtime.close()


@contextlib.contextmanager
def dropped_at_end() -> Iterator[None]:
    """Close the model that is kept when the block ends."""
    try:
        yield
    finally:
        drop()


def runtime(directory: str) -> Runtime:
    """Return the runtime of a model, which is loaded unless it is kept.

    Args:
        directory: Folder of the SavedModel.
    """
    for files, kept in _kept:
        if files == manifest.describe(Path(directory)):
            return kept
    return Runtime(Path(directory))
