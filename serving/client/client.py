"""The blocking client."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from imgpipe.serving import tensors
from imgpipe.serving.client import channel, messages
from imgpipe.serving.client.channel import Method
from imgpipe.serving.client.classifier import Classifier, ClassifyQuestion
from imgpipe.serving.client.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
    from_rpc,
)
from imgpipe.serving.client.messages import Prediction, VersionStatus
from imgpipe.serving.look import in_words

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0  # while waiting for a model
_LONGEST_TIMEOUT_S = 365 * 24 * 3600.0
"""A longer timeout, such as `math.inf`, means this one. From about 200 years on, gRPC's deadline
lies in the past."""


class Client(Classifier):
    """A connection to one model on one server, which threads may share.

    Args:
        target: `host:port` or any gRPC target (`dns:///name:port`, `unix:path`,
            `ipv4:a:port,b:port`); requests are distributed over its addresses.
        model: Name of the model on the server.
        timeout: Deadline of each call in seconds, including retries.
        version: Version to ask; None for the newest available one.
        wait_for_ready: Whether to wait until the deadline for a server that cannot be reached, for
            example during its restart, instead of failing at once.
        attempts: Attempts of each call within its deadline, at most 5; 1 does not retry. A call is
            repeated when the server is UNAVAILABLE, or has CANCELLED it, which is how a Python gRPC
            server ends the calls that reach it while it stops.
        tls: Settings for encryption and for the client certificate; None for plain connections.
        headers: Headers of every call, sent as gRPC metadata: `Authorization: Bearer …` for a
            gateway, `Host` for KServe's ingress, which becomes the authority.

    Raises:
        InvalidArgument: A setting is not valid.

    Examples:
        With a server, as `imgpipe serve imgpipe-out` starts it:

        >>> import imgpipe
        >>> with imgpipe.Client("localhost:8500") as client:
        ...     [answer] = client.classify(["rock.jpg"])
        >>> answer.label
        'rock'
    """

    def __init__(
        self,
        target: str,
        model: str = "imgpipe",
        timeout: float = 30.0,
        *,
        version: int | None = None,
        wait_for_ready: bool = False,
        attempts: int = channel.MAX_ATTEMPTS,
        tls: channel.Tls | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not model:
            raise InvalidArgument("The name of the model must not be empty.")
        self.target = target
        self.model = model
        self.timeout = _checked(timeout)
        self._version = version
        self._wait_for_ready = wait_for_ready
        self._metadata = channel.metadata(headers or {})
        self._channel = channel.opened(target, attempts, tls, headers or {})
        self._method = functools.cache(self._multicallable)

    def _multicallable(self, method: Method) -> Any:
        return self._channel.unary_unary(
            method.path,
            # Deterministic: the same inputs become the same bytes, whatever the order of a dict.
            request_serializer=lambda message: message.SerializeToString(deterministic=True),
            response_deserializer=method.response.FromString,
        )

    def _call(self, method: Method, request: Any, timeout: float | None = None) -> Any:
        """Send a request and return its reply; a refusal, or no answer, is a ServingError."""
        seconds = self.timeout if timeout is None else _checked(timeout)
        try:
            return self._method(method)(
                request,
                timeout=min(seconds, _LONGEST_TIMEOUT_S),
                wait_for_ready=self._wait_for_ready,
                metadata=self._metadata,
            )
        except grpc.RpcError as error:
            raise from_rpc(error, self.target, seconds) from error
        except ValueError as error:  # gRPC raises ValueError on a closed channel
            raise ServingError(f"The client of {self.target} is closed.") from error

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
                numbers. Arrays keep their dtype; lists of floats become float32, and lists of
                integers int32 or int64.
            signature_name: Name of the signature; empty for `serving_default`.
            output_filter: Names of the outputs to return; empty for all outputs.
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Returns:
            The outputs as arrays, with the model, version and signature that answered.

        Raises:
            ServingError: The call failed; the subclass tells the status code.
        """
        request = messages.predict_request(
            self.model, inputs, signature_name, output_filter, self._version
        )
        return messages.prediction(self._call(channel.PREDICT, request, timeout))

    def _predict_images(self, images: Sequence[bytes], question: ClassifyQuestion) -> Prediction:
        inputs = {question.input_name: np.array(images, dtype=object)}
        try:
            # All outputs, so that the names of the classes are those of the answer itself: another
            # model may answer under the same version. The names of 1,000 classes take 0.15 ms of an
            # image, and its answer 20 kB.
            return self.predict(inputs, question.signature_name, (), question.timeout)
        except InvalidArgument as error:  # TensorFlow Serving repeats the words of TensorFlow
            worded = InvalidArgument(in_words(str(error), images))
            worded.from_server = error.from_server
            raise worded from error

    def _check_question(self, refused: InvalidArgument, question: ClassifyQuestion) -> None:
        """Raise the error of a request whose signature has no such input of encoded images."""
        request = channel.GetModelMetadataRequest(metadata_field=[channel.SIGNATURE_DEF])
        messages.select(request.model_spec, self.model, self._version)
        try:
            answer = self._call(channel.METADATA, request, question.timeout)
        except ServingError as error:
            if error.code in ("UNIMPLEMENTED", "PERMISSION_DENIED"):
                return  # a gateway may only let predictions pass
            raise
        packed = answer.metadata[channel.SIGNATURE_DEF].value
        signatures = channel.SignatureDefMap.FromString(packed).signature_def
        # Of a name that is missing, protobuf has an empty message.
        signature = signatures[question.signature_name or "serving_default"]
        if signature.inputs[question.input_name].dtype != tensors.STRING:
            raise refused

    def status(
        self,
        version: int | None = None,
        timeout: float | None = None,
    ) -> list[VersionStatus]:
        """Return the state of every version that the server knows, newest first.

        Args:
            version: Return the state of this version only.
            timeout: Deadline of this call in seconds; None uses the timeout of the client.

        Raises:
            ServingError: The call failed, for example because the model is unknown.
        """
        request = channel.GetModelStatusRequest()
        messages.select(request.model_spec, self.model, version)
        return messages.statuses(self._call(channel.STATUS, request, timeout))

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
        version = self._version if version is None else version
        deadline = time.monotonic() + timeout
        pause = _FIRST_PAUSE_S
        last = "no answer yet"
        while (left := deadline - time.monotonic()) > 0:
            try:
                states = self.status(version, min(left, self.timeout))
            except (NotFound, DeadlineExceeded, Unavailable) as error:
                last = str(error)
            else:
                newest = _newest_available(states, self.model)
                if newest is not None:
                    return newest
                told = [f"version {s.version} {s.state} {s.error_message}" for s in states]
                last = ", ".join(told).strip()
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        raise DeadlineExceeded(
            f"Model {self.model!r} at {self.target} is not available after {timeout:g} s: {last}."
        )

    def close(self) -> None:
        """Close the connection and cancel the calls in flight."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _checked(timeout: float) -> float:
    if not timeout > 0:
        raise InvalidArgument(
            f"timeout must be a number of seconds above 0. Received: {timeout!r}."
        )
    return timeout


def _newest_available(states: Sequence[VersionStatus], model: str) -> int | None:
    available = [state.version for state in states if state.state == "AVAILABLE"]
    if available:
        return max(available)
    failed = [state for state in states if state.state == "END" and state.error_code]
    if failed and len(failed) == len(states):
        raise Unavailable(
            f"Version {failed[0].version} of model {model!r} failed to load: "
            f"{failed[0].error_message}"
        )
    return None
