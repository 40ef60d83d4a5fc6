"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, Unpack

from imgpipe.serving.client.base import ClientBase
from imgpipe.serving.client.classifying import Classifying
from imgpipe.serving.client.images import Image
from imgpipe.serving.client.messages import Example
from imgpipe.serving.client.operations import Answer
from imgpipe.serving.client.results import (
    Classification,
    Metadata,
    ModelStatus,
    Prediction,
    Rankings,
    Regressions,
    VersionStatus,
)
from imgpipe.serving.client.steps import Call, ClientStep, Operation, Pause, Together, Work
from imgpipe.serving.client.transport import transport_to

T = TypeVar("T")


class Client(ClientBase):  # noqa: D101 (built from the docstring of the base class)
    __doc__ = f"{ClientBase.__doc__}\n    Threads may share one client.\n    "

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._transport = transport_to(self._connection)

    def _run(self, operation: Operation[T]) -> T:
        """Execute an operation step by step."""
        resume: Callable[[Any], ClientStep] = operation.send
        outcome: Any = None
        while True:
            try:
                step = resume(outcome)
            except StopIteration as end:
                return end.value
            try:
                outcome, resume = self._do(step), operation.send
            except Exception as error:  # the operation may handle it, or end with it
                outcome, resume = error, operation.throw

    def _do(self, step: ClientStep) -> Any:
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
            # Ctrl-C must not wait for the calls in flight; closing the client cancels them.
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
            inputs: Maps the name of each input to an array, or to nested lists of bytes, str or
                numbers. Arrays keep their dtype; numbers in lists are converted to the dtype of
                the signature.
            signature_name: Name of the signature; empty for ``serving_default``.
            output_filter: Names of the outputs to return; empty for all outputs.
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Returns:
            The outputs as arrays, with the model, version and signature that answered.

        Raises:
            ServingError: The call failed; the subclass tells the status code.
        """
        return self._run(self._operations.predict(inputs, signature_name, output_filter, timeout))

    def classify(
        self, images: Sequence[Image], **options: Unpack[Classifying]
    ) -> list[Classification]:
        """Classify images.

        Args:
            images: Encoded images as bytes, paths, open binary files, Pillow images, or arrays of
                pixels (uint8, [height, width, 3] or [height, width]). They are read and sent in
                chunks, a few at a time.
            **options: See ``Classifying``.

        Returns:
            One classification per image, in the order of ``images``.

        Raises:
            InvalidArgument: An image cannot be read or decoded; the message names it.
            ServingError: The call failed for another reason.
        """
        return self._run(self._operations.classify(images, options))

    def classify_each(
        self,
        images: Sequence[Image],
        *,
        progress: Callable[[int, Sequence[Answer]], None] | None = None,
        **options: Unpack[Classifying],
    ) -> list[Answer]:
        """Classify images, and return errors of single images instead of raising them.

        Args:
            images: See ``classify``.
            progress: Called after each chunk with the index of its first image and its answers.
                The call happens in the thread that received the answers, and chunks may finish in
                any order.
            **options: See ``Classifying``.

        Returns:
            One classification or ``InvalidArgument`` error per image, in the order of ``images``.

        Raises:
            ServingError: A call failed for a reason that is not one image.
        """
        return self._run(self._operations.classify_each(images, options, progress))

    def classify_examples(
        self,
        examples: Sequence[Example],
        signature_name: str = "",
        context: Example | None = None,
        timeout: float | None = None,
    ) -> Rankings:
        """Call TensorFlow Serving's Classify RPC.

        Args:
            examples: One mapping of feature names to values for each tf.Example.
            signature_name: Name of the signature; empty for ``serving_default``.
            context: Features that all examples share.
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Returns:
            The labels and scores of each example.

        Raises:
            ServingError: The call failed.
        """
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
        """Call TensorFlow Serving's Regress RPC.

        Args:
            examples: One mapping of feature names to values for each tf.Example.
            signature_name: Name of the signature; empty for ``serving_default``.
            context: Features that all examples share.
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Returns:
            One value per example.

        Raises:
            ServingError: The call failed.
        """
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
        """Run several signatures on the same tf.Examples.

        Args:
            tasks: Maps the name of each signature to ``classify`` or ``regress``.
            examples: One mapping of feature names to values for each tf.Example.
            context: Features that all examples share.
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Returns:
            The results by signature name.

        Raises:
            ServingError: The call failed.
        """
        return self._run(self._operations.multi_inference(tasks, examples, context, timeout))

    def status(
        self, version: int | None = None, timeout: float | None = None
    ) -> list[VersionStatus]:
        """Return the state of every version that the server knows, newest first.

        Args:
            version: Return the state of this version only.
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Raises:
            ServingError: The call failed, for example because the model is unknown.
        """
        return self._run(self._operations.status(version, timeout))

    def models(self, timeout: float | None = None) -> list[ModelStatus]:
        """Return all models of the server by name, each with its versions and labels.

        The ``model`` of the client has no effect on this call.

        Args:
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Raises:
            Unimplemented: The server does not list its models. Only imgpipe's server lists them;
                TensorFlow Serving does not.
            ServingError: The call failed for another reason.
        """
        return self._run(self._operations.models(timeout))

    def ready(self, timeout: float | None = None) -> bool:
        """Return whether the model (or the version that this client asks for) is available now.

        The result is False where no server answers or the server does not know the model.

        Args:
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Raises:
            ServingError: The server refused the call for another reason, such as a missing
                permission.
        """
        return self._run(self._operations.ready(timeout))

    def metadata(self, timeout: float | None = None) -> Metadata:
        """Return the signatures of the model.

        Args:
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Raises:
            ServingError: The call failed.
        """
        return self._run(self._operations.metadata(timeout))

    def reload(self, config: str, timeout: float | None = None) -> None:
        """Replace the models of the server; returns once the new models are available.

        Servers refuse this call unless they were started with permission for it.

        Args:
            config: Text of a ``models.config`` file.
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Raises:
            InvalidArgument: ``config`` is not the text of a ModelServerConfig.
            ServingError: The call failed.
        """
        self._run(self._operations.reload(config, timeout))

    def wait_until_available(self, timeout: float = 60.0, version: int | None = None) -> int:
        """Wait until a server that is starting has loaded the model.

        Args:
            timeout: Total time to wait in seconds.
            version: Version to wait for; None waits for the version of the client, or for any.

        Returns:
            The newest available version.

        Raises:
            Unavailable: The version (or every version) failed to load; the message has the cause.
            DeadlineExceeded: The model was not available in time; the message has the last answer.
        """
        return self._run(self._operations.wait_until_available(timeout, version))

    def close(self) -> None:
        """Close the connection and cancel the calls in flight."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
