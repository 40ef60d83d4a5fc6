"""Handling of REST requests, in the same thread pool as gRPC requests."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
)

from imgpipe.serving import tensors
from imgpipe.serving.server import services, status
from imgpipe.serving.server.core import Core
from imgpipe.serving.server.monitoring.request_log import RequestLog
from imgpipe.serving.server.requests.calls import Call, Calls
from imgpipe.serving.server.requests.predict import Handle, Prediction, Spec
from imgpipe.serving.server.rest import json_answers as answers
from imgpipe.serving.server.rest import paths
from imgpipe.serving.server.rest.body import TooLarge, decoded
from imgpipe.serving.server.rest.json_tensors import encoded_text, read_predict
from imgpipe.serving.server.rest.json_text import read
from imgpipe.serving.server.rest.options import MAX_BODY_BYTES, MAX_BODY_VALUES
from imgpipe.serving.server.signature_names import DEFAULT_SIGNATURE
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.versions.version import VersionState

HTTP_STATUS: dict[int, int] = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
"""HTTP status by status code, as in model_servers/http_server.cc; 500 for all other codes."""
_LARGE = 1 << 20
"""Size in bytes from which a body counts as large. A compressed body always does."""
_LARGE_AT_ONCE = 2
"""Number of large bodies that are parsed at once. Each takes many times its size in memory, and
Python's interpreter lock lets only one of them advance at a time anyway."""


@dataclass(frozen=True)
class RestRequest:
    """A request as it was received."""

    verb: str
    path: str
    """The path as sent, with its query."""
    peer: str
    body: bytes = b""
    encoding: str = ""
    """Content-Encoding."""
    deadline: float | None = None
    is_active: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Answer:
    """The answer to a request: its HTTP status and its JSON text."""

    status: int
    text: str
    version: int | None = None
    """Version of the model that answered."""


class Api:
    """Answers REST requests with the models and errors of the gRPC services."""

    def __init__(self, core: Core, calls: Calls, log: RequestLog, workers: int) -> None:
        """``workers`` is the number of threads that call ``answer``."""
        self._core, self._calls, self._log = core, calls, log
        self._unobserved = Calls()
        # The metadata of each loaded version as JSON, which is dropped with its runtime.
        self._metadata: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._large = threading.BoundedSemaphore(_LARGE_AT_ONCE)
        # Each large request that waits holds a thread. The remaining threads are kept for others.
        self._large_here = threading.BoundedSemaphore(max(workers // 2, _LARGE_AT_ONCE))

    def answer(self, received: RestRequest) -> Answer:
        """Execute a request and return its answer. Never raises."""
        return self._run(received, lambda target, call: self._work(received, target, call))

    def refuse(self, received: RestRequest, error: StatusError) -> Answer:
        """Return the answer to a request that is not executed; it is counted and logged."""

        def work(target: paths.Target, call: Call) -> str:
            raise error

        # With the deadline, ``Calls`` would report that it has passed instead of ``error``.
        return self._run(replace(received, deadline=None), work)

    def _run(self, received: RestRequest, work: Callable[[paths.Target, Call], str]) -> Answer:
        try:
            target = paths.parse(received.verb, received.path)
            call = Call(
                target.action.capitalize(),
                "REST",
                received.peer,
                len(received.body),
                received.deadline,
                received.is_active,
                model=target.spec.name,
            )
            calls = self._calls if received.verb == "POST" else self._unobserved
            text = calls.run(call, lambda call: work(target, call))
            return Answer(200, text, call.version)
        except StatusError as error:
            return failure(error)

    def _work(self, received: RestRequest, target: paths.Target, call: Call) -> str:
        if target.action == "status":
            # A label is ignored here, as in TensorFlow Serving.
            return _status(*self._core.states(target.spec.name, target.spec.version))
        if target.action == "metadata":
            with self._core.acquire(target.spec) as handle:
                call.version = handle.version
                return self._metadata_of(handle)
        if target.action == "predict":
            return self._predict(received, target.spec, call)
        raise StatusError(
            Code.UNIMPLEMENTED,
            f"This server has no :{target.action}. Use :predict, or TensorFlow Serving itself.",
        )

    def _metadata_of(self, handle: Handle) -> str:
        """Return the metadata of a version as JSON, which is written once."""
        text = self._metadata.get(handle.runtime)
        if text is None:
            text = self._metadata[handle.runtime] = _metadata(services.metadata_response(handle))
        return text

    def _document(self, received: RestRequest) -> dict[str, Any]:
        body = decoded(received.body, received.encoding, MAX_BODY_BYTES)
        return read(body, MAX_BODY_VALUES)

    @contextlib.contextmanager
    def _gate(self, received: RestRequest, call: Call) -> Iterator[None]:
        """Wait until a body may be parsed; the context ends when it has been parsed."""
        if len(received.body) < _LARGE and not received.encoding:
            yield
            return
        # A compressed body may become any size up to the limit.
        if not self._large_here.acquire(blocking=False):
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                "The server is overloaded: too many large requests at once. Try again later, or "
                "use gRPC.",
            )
        with contextlib.ExitStack() as held:
            held.callback(self._large_here.release)
            left = call.left()
            if not self._large.acquire(timeout=None if left is None else max(left, 0.0)):
                raise StatusError(
                    Code.DEADLINE_EXCEEDED, "Deadline exceeded before the request ran."
                )
            held.callback(self._large.release)
            yield

    def _predict(self, received: RestRequest, spec: Spec, call: Call) -> str:
        with contextlib.ExitStack() as held:
            with self._gate(received, call):
                document = self._document(received)
                signature_name = _read_signature(document)
                handle = held.enter_context(self._core.acquire(spec))
                call.version = handle.version
                key = signature_name or DEFAULT_SIGNATURE
                if key not in handle.signatures:
                    raise invalid(f'Serving signature name: "{key}" not found in signature def')
                form, inputs = read_predict(document, handle.signatures[key].inputs, signature_name)
                document.clear()  # it is many times as large as the arrays
            answer = handle.predict(inputs, signature_name, call=call)
        call.signature, call.rows = answer.signature_name, answer.rows
        call.run_seconds = answer.run_seconds
        text = answers.write_predict(answer.outputs, form)
        if self._log.enabled:
            self._record(handle.name, handle.version, inputs, answer)
        return text

    def _record(self, name: str, version: int, inputs: dict[str, Any], answer: Prediction) -> None:
        request, response = predict_pb2.PredictRequest(), predict_pb2.PredictResponse()
        for message in (request, response):
            message.model_spec.name = name
            message.model_spec.signature_name = answer.signature_name
        response.model_spec.version.value = version
        for alias, value in inputs.items():
            tensors.fill_compact(request.inputs[alias], value)
        for alias, value in answer.outputs.items():
            tensors.fill_typed(response.outputs[alias], value)
        self._log.record(request, response)


def failure(error: StatusError) -> Answer:
    """Return the answer to a failed request, as TensorFlow Serving writes it."""
    code = 413 if isinstance(error, TooLarge) else HTTP_STATUS.get(error.code, 500)
    return Answer(code, answers.write_error(status.truncate(error.message)))


@functools.lru_cache(maxsize=64)
def _status(*states: VersionState) -> str:
    """Return the states of versions as JSON. Programs ask for it every second."""
    return _json(services.status_message(states))


def _json(message: Any) -> str:
    text: str = json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=1,
    )
    return f"{text}\n"  # upstream's writer ends with it


def _metadata(response: Any) -> str:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[services.SIGNATURE_DEF].Unpack(signatures)
    return (
        f'{{\n"model_spec":{_json(response.model_spec)},\n'
        f'"metadata": {{"signature_def": {_json(signatures)}}}\n}}\n'
    )


def _read_signature(document: dict[str, Any]) -> str:
    """Return the ``signature_name`` of a request; empty if the request has none."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("Not formatted correctly: 'signature_name' must be a string value.")
    encoded_text(name)
    return name
