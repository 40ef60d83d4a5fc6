"""A model that is loaded into this process, for Python programs and `imgpipe predict`.

It classifies as the client of a server does, so that the order of the labels and the messages about
bad images are the same with and without a server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.models.errors import ResourceError
from imgpipe.models.export.signatures import SERVING_DEFAULT
from imgpipe.models.process import quick_imports
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.published.asked_model import ask
from imgpipe.pipeline.published.model import Model
from imgpipe.serving import decoder_lines
from imgpipe.serving.client import Classification, Prediction, ServingError
from imgpipe.serving.client.classifier import Classifier, ClassifyQuestion
from imgpipe.serving.client.images import Image
from imgpipe.serving.served import Served

_process: int | None = None  # the one that has loaded a model, whose threads no fork of it has


def _check_process() -> None:
    """Refuse a fork of the process that has loaded the first model."""
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise ResourceError(
            "a process that was forked after a model was loaded cannot use TensorFlow, which would "
            "wait without end. Load the model only in the child processes, or start these with "
            "multiprocessing.get_context('spawn')"
        )


class LoadedModel(Classifier):
    """A model that answers in this process, as a server with the same version would.

    `imgpipe.load` makes it. Several threads may share it, but no process that is forked later.
    Close it to free its memory, or use it as a context manager. What TensorFlow prints while it
    loads is not shown.

    Args:
        path: Output folder of a run, folder of numbered versions, one version, or folder of a run.
        number: Number of the version, None for the newest intact one.
        run: Name of a run of the output folder, or `newest`; None for a published version.

    Raises:
        ConfigError: There is no version of this number.
        ResourceError: There is no model, it is damaged, or this process is a fork of one that has
            loaded a model.
    """

    def __init__(self, path: Path, number: int | None = None, run: str | None = None) -> None:
        self._model = Model.of(path, number, run)
        _check_process()
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # no line for each file that is not an image
        with consoles.quiet():
            with quick_imports():
                import tensorflow  # noqa: F401  # the session below needs it
            self._served = Served(str(self.folder))
        self._closed = False

    @property
    def folder(self) -> Path:
        """Folder of the version."""
        return self._model.folder

    @property
    def version(self) -> int | None:
        """Number of the version; None if its folder is not named by a number."""
        return self._model.version

    @property
    def notice(self) -> str:
        """Why the model is not published, as a sentence; "" for a published version."""
        return self._model.notice

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities."""
        return self._model.vocabulary

    def predict(self, images: Image | Sequence[Image], *, top: int = 5) -> list[Classification]:
        """Classify images.

        Args:
            images: One image or a sequence of them: paths, encoded bytes, Pillow images, or arrays
                of pixels, uint8 [height, width, 3] or [height, width].
            top: Number of labels to return for each image.

        Returns:
            One classification for each image, with `label`, `probability` and `top`.

        Raises:
            InvalidArgument: An image cannot be read or decoded; the message names it.
            ResourceError: This process was forked after the model had been loaded.
            ServingError: The model is closed.
        """
        if isinstance(images, np.ndarray):
            is_single = images.ndim < 4  # [N, height, width, 3] is a sequence of images
        else:
            texts = str | bytes | bytearray
            is_single = isinstance(images, texts) or not isinstance(images, Sequence)
        several: Any = [images] if is_single else images
        return self.classify(several, top=top)

    def _predict_images(self, images: Sequence[bytes], question: ClassifyQuestion) -> Prediction:
        _check_process()
        if self._closed:
            raise ServingError(f"The model in {self.folder} is closed. Load it again")
        with decoder_lines.dropped():
            outputs, _ = ask(self._served, images)
        # As in the answers of a server, 0 stands for a model without a number.
        return Prediction(outputs, str(self.folder), self.version or 0, SERVING_DEFAULT)

    def close(self) -> None:
        """Free the memory of the model."""
        self._closed = True
        self._served.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LoadedModel({str(self.folder)!r}, {len(self.classes)} classes)"
