"""A model in this process, and how it is asked.

A file of a format that only Pillow reads is converted, as a run converts it before training.

It classifies as the client of a server does, so that the order of the labels and the messages about
bad images are the same with and without a server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.components.common.image_file.content import for_the_model
from imgpipe.components.common.image_file.header import converted_formats, probe
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.described_files import SERVING_DEFAULT, UNLIKE
from imgpipe.models.files.image_limits import PIXEL_LIMIT
from imgpipe.models.machine.process import load_tensorflow
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.published.predicted_images import ImageAnswer
from imgpipe.serving import decoder_lines
from imgpipe.serving.client import InvalidArgument, Prediction, ServingError
from imgpipe.serving.client.classifier import Classifier, ClassifyQuestion
from imgpipe.serving.client.images import Image, files_of, name_of
from imgpipe.serving.look import Look, in_words, too_many_pixels
from imgpipe.serving.server import limits, status

if TYPE_CHECKING:
    from imgpipe.serving.server.runtime import Runtime

_process: int | None = None  # the one that has loaded a model, whose threads no fork of it has


def ask(
    runtime: Runtime, images: Sequence[bytes], signature: str = SERVING_DEFAULT
) -> tuple[dict[str, np.ndarray], list[bytes]]:
    """Return the outputs of a signature for encoded images, and the images as it decoded them.

    Args:
        runtime: The model.
        images: The content of each file.
        signature: Name of a signature that takes encoded images.

    Raises:
        InvalidArgument: The model refuses an image, for the reason in the message.
    """
    # A format that no model knows is converted at once.
    decodable = [image if Look(image).format else _converted(image) for image in images]
    try:
        return _answer(runtime, decodable, signature), decodable
    except InvalidArgument:
        if len(decodable) > 1:  # it is not yet known which one the model refuses
            raise
        pixels = probe(Look(decodable[0]), PIXEL_LIMIT).pixels
        if pixels > PIXEL_LIMIT:
            raise InvalidArgument(too_many_pixels(pixels, PIXEL_LIMIT)) from None
        converted = [_converted(decodable[0])]
        if converted == decodable:
            raise
    return _answer(runtime, converted, signature), converted


def _converted(image: bytes) -> bytes:
    return for_the_model(image, PIXEL_LIMIT)


def _answer(runtime: Runtime, images: Sequence[bytes], signature: str) -> dict[str, np.ndarray]:
    import tensorflow as tf

    encoded = np.array(images, dtype=object)
    try:
        limits.checked_pixels({names.IMAGE_BYTES: encoded}, PIXEL_LIMIT)
        return runtime.answer(signature, image_bytes=encoded)
    except (status.StatusError, tf.errors.InvalidArgumentError) as error:
        formats = converted_formats()
        why = in_words(status.from_exception(error).message, images, formats)
        raise InvalidArgument(why) from error


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


def _files_of(image: Any) -> Sequence[Any]:
    """Return the files of a folder, or an image itself."""
    if isinstance(image, str | Path) and Path(image).is_dir():
        return files_of([image])
    return [image]


class LoadedModel(Classifier):
    """A model that answers in this process, as a server with the same version would.

    `imgpipe.load` makes it. Several threads may share it, but no process that is forked later.
    Close it to free its memory, or use it as a context manager.

    Args:
        path: Output folder of the runs, one version, or the folder of a run.
        number: Number of the version, None for the newest intact one.

    Raises:
        ConfigError: There is no version of this number.
        ResourceError: There is no model, it is damaged, or this process is a fork of one that has
            loaded a model.
    """

    def __init__(self, path: Path, number: int | None = None) -> None:
        self._model = lookup.model(path, number)
        _check_process()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as `imgpipe predict`
        load_tensorflow()
        from imgpipe.serving.server.runtime import Runtime

        self._runtime = Runtime(self.folder)
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
    def tells_unlike(self) -> bool:
        """Whether an answer says that an image is unlike all that the model has learned."""
        return UNLIKE in self._runtime.signatures[SERVING_DEFAULT].outputs

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities."""
        return self._model.vocabulary

    def predict(
        self, images: Image | Sequence[Image], *, top: int = 5, unsure_below: float = 0.0
    ) -> list[ImageAnswer]:
        """Classify images; one that cannot be classified has an answer that says why.

        Args:
            images: One image or a sequence of them: paths, also of folders, which stand for all
                files below them, encoded bytes, Pillow images, or arrays of pixels, uint8
                [height, width, 3] or [height, width].
            top: Number of labels to return for each image.
            unsure_below: Probability, 0..1, below which an answer is marked as unsure.

        Returns:
            One answer for each image, with `image`, `label`, `probability`, `top` and `error`.

        Raises:
            InvalidArgument: A folder has no file or cannot be read, or something is no image at
                all, such as a number.
            ResourceError: This process was forked after the model had been loaded.
            ServingError: The model is closed.
        """
        if isinstance(images, np.ndarray):
            is_single = images.ndim < 4  # [N, height, width, 3] is a sequence of images
        else:
            texts = str | bytes | bytearray
            is_single = isinstance(images, texts) or not isinstance(images, Sequence)
        given: Any = [images] if is_single else images
        several = [file for image in given for file in _files_of(image)]
        answers = self.classify_each(several, top=top, unsure_below=unsure_below)
        named = enumerate(zip(several, answers, strict=True))
        return [ImageAnswer.of(name_of(image, index), answer) for index, (image, answer) in named]

    def _predict_images(self, images: Sequence[bytes], question: ClassifyQuestion) -> Prediction:
        _check_process()
        if self._closed:
            raise ServingError(f"The model in {self.folder} is closed. Load it again")
        with decoder_lines.dropped():
            outputs, _ = ask(self._runtime, images)
        # As in the answers of a server, 0 stands for a model without a number.
        return Prediction(outputs, str(self.folder), self.version or 0, SERVING_DEFAULT)

    def close(self) -> None:
        """Free the memory of the model."""
        self._closed = True
        self._runtime.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LoadedModel({str(self.folder)!r}, {len(self.classes)} classes)"
