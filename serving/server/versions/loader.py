"""The loader, which chooses the runtime of a version and adds batching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.requests.batcher import BatchingRuntime, SlicedRuntime, Watch
from imgpipe.serving.server.runtimes.custom_ops import load_libraries, load_text
from imgpipe.serving.server.runtimes.runtime import Runtime, SessionOptions, SessionRuntime
from imgpipe.serving.server.status import invalid
from imgpipe.serving.server.storage import DIGEST, TFLITE_MODEL
from imgpipe.serving.server.textproto import BatchingParameters, read_batching
from imgpipe.serving.server.versions.servable import Loader

PER_MODEL_BATCHING = "batching_params.pbtxt"
"""File in a version directory that is read with ``per_model_batching``."""


@dataclass(frozen=True)
class LoaderOptions:
    """Options for loading versions."""

    session: SessionOptions = field(default_factory=SessionOptions)
    batching: BatchingParameters | None = None
    per_model_batching: bool = False
    custom_op_libraries: tuple[str, ...] = ()
    """Paths of shared libraries that are loaded before the first model."""
    tflite: bool = False
    """Whether ``model.tflite`` is preferred to a SavedModel in the same directory."""
    tflite_interpreters: int = 0
    """Number of LiteRT interpreters per model; 0 for one per CPU core."""
    wrap: Callable[[Runtime], Runtime] | None = None
    """Receives the session of each SavedModel that is loaded, and returns what is served."""


def make_loader(options: LoaderOptions, watch: Watch | None = None) -> Loader:
    """Return the function that loads a version directory.

    Args:
        options: How versions are loaded.
        watch: Called with every batch that runs.

    Raises:
        BadArgument: A library of custom operations cannot be loaded.
    """
    trusted = load_text() | load_libraries(options.custom_op_libraries)
    session = replace(options.session, trusted_ops=options.session.trusted_ops | trusted)

    def load(directory: Path) -> Runtime:
        if options.tflite and (directory / TFLITE_MODEL).is_file():
            from imgpipe.serving.server.runtimes.tflite import TfliteRuntime

            return _limited(TfliteRuntime(directory, options.tflite_interpreters), directory)
        batching = _batching(directory, options)
        runtime: Runtime = SessionRuntime(directory, session)
        # Below the queue, so that ``wrap`` receives the session itself.
        if options.wrap is not None:
            runtime = options.wrap(runtime)
        runtime = _limited(runtime, directory)
        return BatchingRuntime(runtime, batching, watch) if batching else runtime

    return load


def _limited(runtime: Runtime, directory: Path) -> Runtime:
    # Only of a model of imgpipe is it known that it computes each row alone.
    return SlicedRuntime(runtime) if (directory / DIGEST).is_file() else runtime


def _batching(directory: Path, options: LoaderOptions) -> BatchingParameters | None:
    file = directory / PER_MODEL_BATCHING
    if options.batching is None or not options.per_model_batching or not file.is_file():
        return options.batching
    try:
        return read_batching(file)
    except BadArgument as error:
        raise invalid(str(error)) from error
