"""Classification of many images in requests of a suitable size, by a server or in this process.

A model refuses a whole request for one bad image. Halving the request until the bad image is alone
finds out which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Union, cast

import numpy as np

from imgpipe.serving.client import images as image_files
from imgpipe.serving.client.errors import InvalidArgument, ResourceExhausted
from imgpipe.serving.client.images import CHUNK_BYTES, Image
from imgpipe.serving.client.messages import Classification, Prediction, classifications

AT_ONCE = 4
"""Chunks in flight at a time: enough for a server with a few cores, with little memory here."""

Answer = Union[Classification, InvalidArgument]
"""The result for one image of many: its classification or its error."""
Progress = Callable[[int, Sequence[Answer]], None]
"""Function that is called with the index of the first image of a chunk, and with its answers."""


class _Loaded(NamedTuple):
    """An image that was read."""

    name: str
    content: bytes


@dataclass(frozen=True)
class ClassifyQuestion:
    """How images are classified; see `Classifier.classify_each`."""

    top: int
    unsure_below: float
    signature_name: str
    input_name: str
    timeout: float | None
    strict: bool

    def __post_init__(self) -> None:
        if self.top < 1:
            raise InvalidArgument(f"top must be 1 or more. Received: {self.top!r}.")
        if not 0 <= self.unsure_below <= 1:
            raise InvalidArgument(
                f"unsure_below must be from 0 to 1. Received: {self.unsure_below!r}."
            )

    def load(self, index: int, image: Image) -> _Loaded | InvalidArgument:
        """Read one image; return its InvalidArgument, or raise it if `strict` is set."""
        name = image_files.name_of(image, index)
        try:
            return _Loaded(name, image_files.content_of(image))
        except InvalidArgument as error:
            named = InvalidArgument(f"{name}: {error}")
            if self.strict:
                raise named from error
            return named


class Classifier(ABC):
    """A model that classifies images; it may be asked by several threads."""

    @abstractmethod
    def _predict_images(self, images: Sequence[bytes], question: ClassifyQuestion) -> Prediction:
        """Answer encoded images with the outputs `classes` and `probabilities`.

        InvalidArgument says that the model refuses the images, or one of them.
        """

    def _check_question(  # noqa: B027 (a model without such a check needs no method)
        self, refused: InvalidArgument, question: ClassifyQuestion
    ) -> None:
        """Raise the error of a question that would be refused for any image, where one can tell."""

    def classify(self, images: Sequence[Image], **options: Any) -> list[Classification]:
        """Classify images; a bad image is an error.

        Args:
            images: Encoded images as bytes, paths, Pillow images, or arrays of pixels (uint8,
                [height, width, 3] or [height, width]). They are read and sent in chunks, a few at a
                time.
            **options: `top` and the other options of `classify_each`.

        Returns:
            One classification per image, in the order of `images`.

        Raises:
            InvalidArgument: An image cannot be read or decoded; the message names it.
            ServingError: The call failed for another reason.
        """
        answers = self.classify_each(images, strict=True, **options)
        return cast("list[Classification]", answers)

    def classify_each(
        self,
        images: Sequence[Image],
        *,
        top: int = 5,
        unsure_below: float = 0.0,
        signature_name: str = "",
        input_name: str = "image_bytes",
        timeout: float | None = None,
        at_once: int = AT_ONCE,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Classify images, and return errors of single images instead of raising them.

        Args:
            images: See `classify`.
            top: Number of labels to return for each image.
            unsure_below: Probability, 0..1, below which an answer is marked as unsure. The report
                of a run says how many answers remain, and how many of them are right.
            signature_name: Name of a signature with an input of encoded images and the outputs
                `classes` and `probabilities`; empty for `serving_default`.
            input_name: Name of that input.
            timeout: Deadline of each request in seconds; None uses the timeout of the client.
            at_once: Number of requests in flight at a time.
            strict: Whether the error of an image ends the call; `classify` sets it.
            progress: Called after each chunk with the index of its first image and its answers.
                The call happens in the thread that received the answers, and chunks may finish in
                any order.

        Returns:
            One classification or `InvalidArgument` error per image, in the order of `images`.

        Raises:
            ServingError: A call failed for a reason that is not one image.
        """
        if at_once < 1:
            raise InvalidArgument(f"at_once must be 1 or more. Received: {at_once!r}.")
        question = ClassifyQuestion(top, unsure_below, signature_name, input_name, timeout, strict)

        def ask(chunk: tuple[int, list[Image]]) -> list[Answer]:
            answers = self._ask_chunk(*chunk, question)
            if progress is not None:
                progress(chunk[0], answers)
            return answers

        chunks = list(_chunks(images))
        if len(chunks) == 1:  # needs no threads
            return ask(chunks[0])
        pool = ThreadPoolExecutor(at_once, "imgpipe-client")
        try:
            of_chunks = list(pool.map(ask, chunks))
        except BaseException as error:
            # Ctrl-C must not wait for the calls in flight; closing the client cancels them.
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        pool.shutdown()
        return [answer for answers in of_chunks for answer in answers]

    def _ask_chunk(
        self, start: int, images: Sequence[Image], question: ClassifyQuestion
    ) -> list[Answer]:
        loaded = [question.load(index, image) for index, image in enumerate(images, start)]
        good = [entry for entry in loaded if not isinstance(entry, InvalidArgument)]
        received: list[Answer] = []
        # Only now are the sizes of images known that were encoded here.
        for part in image_files.chunks([len(entry.content) for entry in good]):
            received += self._ask(good[part], question)
        in_order = iter(received)
        return [entry if isinstance(entry, InvalidArgument) else next(in_order) for entry in loaded]

    def _ask(
        self, loaded: Sequence[_Loaded], question: ClassifyQuestion, whole: bool = True
    ) -> list[Answer]:
        """Classify images of one chunk; `whole` is False for a part of a refused request."""
        try:
            answer = self._predict_images([entry.content for entry in loaded], question)
        except InvalidArgument as error:
            if whole:
                self._check_question(error, question)
            if len(loaded) == 1:
                only = loaded[0]
                named = InvalidArgument(f"{only.name}: {error}")
                if question.strict:
                    raise named from error
                return [named]
        except ResourceExhausted as error:
            # A server that is overloaded says the same, but of no single image.
            if question.strict or len(loaded) > 1 or len(loaded[0].content) <= CHUNK_BYTES:
                raise
            return [InvalidArgument(f"{loaded[0].name} is too large for the server: {error}")]
        else:
            return list(classifications(answer, len(loaded), question.top, question.unsure_below))
        # Outside of `except`, so that no error of a part carries that of the whole as its context.
        half = len(loaded) // 2
        first = self._ask(loaded[:half], question, whole=False)
        return first + self._ask(loaded[half:], question, whole=False)


def _chunks(images: Sequence[Image]) -> Iterator[tuple[int, list[Image]]]:
    """Yield the index of the first image and the images of each request, without reading files."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        images = list(images)
    if isinstance(images, (str, bytes)) or not isinstance(images, Sequence):
        raise InvalidArgument(
            f"classify expects a list of images. Received a single {type(images).__name__}."
        )
    sizes = [image_files.size_of(image, index) for index, image in enumerate(images)]
    for part in image_files.chunks(sizes):
        yield part.start, list(images[part])
