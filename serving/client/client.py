"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar, Unpack

from imgpipe.serving.client.base import ClientBase
from imgpipe.serving.client.images import Image
from imgpipe.serving.client.messages import Example
from imgpipe.serving.client.operations import Answer, Classifying
from imgpipe.serving.client.results import (
    Classification,
    Metadata,
    ModelStatus,
    Prediction,
    Rankings,
    Regressions,
    VersionStatus,
)
from imgpipe.serving.client.steps import Call, Operation, Pause, Step, Together, Work
from imgpipe.serving.client.transport import transport_to

T = TypeVar("T")


class Client(ClientBase):  # noqa: D101 (made from that of the base)
    __doc__ = f"{ClientBase.__doc__}\n    Threads may share it.\n    "

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._transport = transport_to(self._connection)

    def _run(self, operation: Operation[T]) -> T:
        """Carry an operation out, step by step."""
        resume: Callable[[Any], Step] = operation.send
        outcome: Any = None
        while True:
            try:
                step = resume(outcome)
            except StopIteration as end:
                return end.value
            try:
                outcome, resume = self._do(step), operation.send
            except Exception as error:
                outcome, resume = error, operation.throw

    def _do(self, step: Step) -> Any:
        if isinstance(step, Call):
            return self._transport.call(step)
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Work):
            return step.do()
        return self._together(step)

    def _together(self, step: Together) -> list[Any]:
        pool = ThreadPoolExecutor(step.at_once, "imgpipe-client")
        try:
            results = list(pool.map(self._run, step.operations))
        except BaseException as error:
            # Nobody who interrupts waits for what is on its way: closing the client cancels it.
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        pool.shutdown()
        return results

    def predict(
        self,
        inputs: Mapping[str, Any],
        signature_name: str = "",
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Prediction:
        """Run one signature.

        Args:
            inputs: an array, or nested lists of bytes, str or numbers, for each input name. Arrays
                keep their dtype; numbers of lists take the signature's.
            signature_name: empty for ``serving_default``.
            output_filter: only these outputs; empty for all.
            timeout: seconds for this call; None for the client's.

        Raises:
            ServingError: one of its subclasses, by what the server answers.
        """
        return self._run(self._operations.predict(inputs, signature_name, output_filter, timeout))

    def classify(
        self, images: Sequence[Image], **options: Unpack[Classifying]
    ) -> list[Classification]:
        """Label names and probabilities for images, in their order; see ``Classifying``.

        Args:
            images: bytes of JPEG, PNG, …, paths, open binary files, Pillow images or arrays of
                pixels; read and sent in chunks, a few at a time.

        Raises:
            InvalidArgument: a file cannot be read or decoded; names the image.
        """
        return self._run(self._operations.classify(images, options))

    def classify_each(
        self,
        images: Sequence[Image],
        *,
        progress: Callable[[int, Sequence[Answer]], None] | None = None,
        **options: Unpack[Classifying],
    ) -> list[Answer]:
        """As ``classify``, but a bad image has its error in its place and spares the others.

        Args:
            images: as of ``classify``.
            progress: called after each chunk with the place of its first image and its answers, in
                the thread that got them; chunks may come in another order.
        """
        return self._run(self._operations.classify_each(images, options, progress))

    def classify_examples(
        self,
        examples: Sequence[Example],
        signature_name: str = "",
        context: Example | None = None,
        timeout: float | None = None,
    ) -> Rankings:
        """TensorFlow Serving's Classify, on tf.Examples given as features by name."""
        return self._run(
            self._operations.classify_examples(examples, signature_name, context, timeout)
        )

    def regress_examples(
        self,
        examples: Sequence[Example],
        signature_name: str = "",
        context: Example | None = None,
        timeout: float | None = None,
    ) -> Regressions:
        """TensorFlow Serving's Regress, on tf.Examples given as features by name."""
        return self._run(
            self._operations.regress_examples(examples, signature_name, context, timeout)
        )

    def multi_inference(
        self,
        tasks: Mapping[str, str],
        examples: Sequence[Example],
        context: Example | None = None,
        timeout: float | None = None,
    ) -> dict[str, Rankings | Regressions]:
        """Several signatures on the same tf.Examples: name to ``classify`` or ``regress``."""
        return self._run(self._operations.multi_inference(tasks, examples, context, timeout))

    def status(
        self, version: int | None = None, timeout: float | None = None
    ) -> list[VersionStatus]:
        """State of every version the server knows, newest first, or of ``version`` alone."""
        return self._run(self._operations.status(version, timeout))

    def models(self, timeout: float | None = None) -> list[ModelStatus]:
        """All models of the server, by name, each with its versions and labels.

        Only imgpipe's own server lists its models. The client's ``model`` plays no part in it.

        Raises:
            Unimplemented: the server does not list its models, as TensorFlow Serving.
        """
        return self._run(self._operations.models(timeout))

    def ready(self, timeout: float | None = None) -> bool:
        """Whether a version of the model (or the one that is asked) is available now.

        A server that is not there, or does not know the model, is not ready; other refusals, such
        as missing permission, are raised.
        """
        return self._run(self._operations.ready(timeout))

    def metadata(self, timeout: float | None = None) -> Metadata:
        """The signatures of the model."""
        return self._run(self._operations.metadata(timeout))

    def reload(self, config: str, timeout: float | None = None) -> None:
        """Replace the server's models by those of ``config``, the text of a models.config.

        Comes back once they are available. Servers refuse it unless they were told to allow it.
        """
        self._run(self._operations.reload(config, timeout))

    def wait_until_available(self, timeout: float = 60.0, version: int | None = None) -> int:
        """Wait for a server that is starting or loading; returns the newest available version.

        Args:
            timeout: seconds in all.
            version: wait for this version; the client's own, or any, when None.

        Raises:
            Unavailable: the version (or every version) failed to load; carries the cause.
            DeadlineExceeded: the time is over; says what the last answer was.
        """
        return self._run(self._operations.wait_until_available(timeout, version))

    def close(self) -> None:
        """Close the connection; calls on their way are cancelled."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
