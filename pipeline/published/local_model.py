"""Answers the client's calls with a model that is loaded into this process.

The client asks it in the same way as a server, so that crops, ten-crop, the order of the labels and
the messages about bad images are the same with and without a server.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ResourceError
from imgpipe.models.export.served_model import Served
from imgpipe.models.quick_imports import quick_imports
from imgpipe.pipeline.command_line import steps
from imgpipe.pipeline.published import pushed_models
from imgpipe.serving import tensors
from imgpipe.serving.client import Client, InvalidArgument, ServingError, Unimplemented, protos
from imgpipe.serving.client.base import ClientBase
from imgpipe.serving.client.steps import Call
from imgpipe.serving.server import status
from imgpipe.serving.server.requests import limits
from imgpipe.serving.server.settings import DEFAULT_MAX_PIXELS

_process: int | None = None  # the one that has loaded a model, whose threads no fork of it has


def load(path: Path, number: int | None) -> LocalClient:
    """Load a model; what TensorFlow prints meanwhile is not shown.

    Args:
        path: Output folder of a run, folder of numbered versions, or one version.
        number: Number of the version, None for the newest intact one.

    Raises:
        ConfigError: There is no version of this number.
        ResourceError: There is no model, it is damaged, or this process is a fork of one that has
            loaded a model.
    """
    version = pushed_models.version_folder(path, number)
    _check_process()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # without a line for each file that is not an image
    with steps.quiet():
        with quick_imports():
            import tensorflow  # noqa: F401  # the session below needs it
        return LocalClient(version)


def _check_process() -> None:
    """Refuse a fork of the process that has loaded the first model.

    Raises:
        ResourceError: This process is such a fork.
    """
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise ResourceError(
            "a process that was forked after a model was loaded cannot use TensorFlow, which would "
            "wait without end. Load the model only in the child processes, or start these with "
            "multiprocessing.get_context('spawn')"
        )


class LocalClient(Client):
    """A client of one version in this process.

    Args:
        folder: Folder of the version.
    """

    def __init__(self, folder: Path) -> None:
        # There is no server, so the transport of the blocking client is replaced.
        ClientBase.__init__(self, "localhost")
        self.folder = folder
        self._transport = _LocalTransport(folder)


class _LocalTransport:
    """Runs Predict calls in a session; threads may share it, as TensorFlow's sessions allow."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._closed = folder, False
        self._served = Served(str(folder))
        self._version = int(folder.name) if folder.name.isdecimal() else 0

    def call(self, call: Call) -> Any:
        """Answer a Predict call.

        Raises:
            InvalidArgument: The model refuses the inputs, such as a file that is not an image.
            ResourceError: The model was loaded by the process of which this one is a fork.
            ServingError: The model is closed.
            Unimplemented: It is another call, which only a server answers.
        """
        _check_process()
        if self._closed:
            raise ServingError(f"The model in {self._folder} is closed. Load it again")
        if call.method != protos.PREDICT:
            raise Unimplemented(f"{call.method.name} needs a server: imgpipe serve OUT")
        import tensorflow as tf

        inputs = {name: tensors.to_array(value) for name, value in call.request.inputs.items()}
        try:
            for name, value in inputs.items():
                limits.row_pixels(name, value, DEFAULT_MAX_PIXELS)
        except status.StatusError as error:
            raise InvalidArgument(error.message) from None
        try:
            outputs = self._served.run(**inputs)
        except tf.errors.InvalidArgumentError as error:
            original = error.__context__ or error  # without the trace that the session adds to it
            raise InvalidArgument(status.from_exception(original).message) from error
        response = protos.PredictResponse()
        for name, value in outputs.items():
            tensors.fill_typed(response.outputs[name], value)
        response.model_spec.version.value = self._version
        return response

    def close(self) -> None:
        """Free the session."""
        self._closed = True
        self._served.close()
