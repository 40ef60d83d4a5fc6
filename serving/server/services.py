"""The gRPC services: conversion of messages, deadlines, and errors as status codes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from imgpipe.serving import tensors
from imgpipe.serving.server import limits
from imgpipe.serving.server.calls import Call, Calls, Place
from imgpipe.serving.server.manager import ModelManager
from imgpipe.serving.server.predict import Handle, Spec
from imgpipe.serving.server.request_log import RequestLog
from imgpipe.serving.server.settings import ServerSettings
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.version import VersionState

# The value of a grpc.StatusCode is a pair of its number and its text.
_GRPC_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
SIGNATURE_DEF = "signature_def"
_PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
_Work: TypeAlias = Callable[[Any, Call], Any]
"""Makes the response to a request, and tells the call what ran."""


class Services:
    """The methods of PredictionService and ModelService.

    Each returns the response to a request, and tells its call what ran. Errors are StatusErrors.
    """

    def __init__(self, model: ModelManager, log: RequestLog) -> None:
        self._model = model
        self._log = log

    def predict(self, request: Any, call: Call) -> Any:
        """Run any signature with tensors as inputs and outputs; return a PredictResponse."""
        spec = Spec.of(request)
        call.model = spec.name
        name = request.model_spec.signature_name
        wanted = list(request.output_filter)
        with self._model.acquire(spec) as handle:
            call.version = handle.version
            # `predict` looks at the arrays again, as at those of REST; none is converted twice.
            inputs = handle.arrays(name, request.inputs)
            del request  # which holds the values of the inputs once more
            outputs = handle.predict(inputs, name, wanted, call=call)
        response = predict_response(handle, call.signature, outputs, wanted)
        self._log.record(inputs, response, outputs, wanted)
        return response

    def metadata(self, request: Any, call: Call) -> Any:
        """Return the signatures as the model stores them; a StatusError for another field."""
        spec = Spec.of(request)
        if list(request.metadata_field) != [SIGNATURE_DEF]:
            raise invalid(
                f"GetModelMetadata has one metadata_field, {SIGNATURE_DEF}. Received: "
                f"{list(request.metadata_field)}."
            )
        with self._model.acquire(spec) as handle:
            return metadata_response(handle)

    def status(self, request: Any, call: Call) -> Any:
        """Return a GetModelStatusResponse with all versions, newest first, or the requested one."""
        return status_message(self._model.states_of(Spec.of(request)))


def predict_response(
    handle: Handle,
    signature: str,
    outputs: Mapping[str, np.ndarray],
    output_filter: Sequence[str] = (),
) -> Any:
    """Return a PredictResponse with the outputs of a version, or those of the filter."""
    response = PredictResponse()
    response.model_spec.name = handle.name
    response.model_spec.signature_name = signature
    response.model_spec.version.value = handle.version
    for alias in dict.fromkeys(output_filter) or sorted(outputs):
        tensors.fill_typed(response.outputs[alias], outputs[alias])
    return response


def metadata_response(handle: Handle) -> Any:
    """Return a GetModelMetadataResponse with the SignatureDefMap of a version."""
    response = GetModelMetadataResponse()
    signatures = SignatureDefMap()
    for key, signature in handle.runtime.signatures.items():
        signatures.signature_def[key].CopyFrom(signature)
    response.model_spec.name = handle.name
    response.model_spec.version.value = handle.version
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def status_message(states: Sequence[VersionState]) -> Any:
    """Return a GetModelStatusResponse with the given states of versions."""
    response = GetModelStatusResponse()
    for state in states:
        item = response.model_version_status.add(version=state.version, state=int(state.state))
        item.status.error_code = state.code
        item.status.error_message = state.message
    return response


def handlers(
    services: Services, calls: Calls, settings: ServerSettings
) -> dict[str, dict[str, grpc.RpcMethodHandler]]:
    """Return the gRPC handlers of all services, by method by service."""
    answered: dict[str, dict[str, tuple[Any, _Work]]] = {
        _PREDICTION_SERVICE: {
            "Predict": (PredictRequest, services.predict),
            "GetModelMetadata": (GetModelMetadataRequest, services.metadata),
        },
        "tensorflow.serving.ModelService": {
            "GetModelStatus": (GetModelStatusRequest, services.status),
        },
    }
    return {
        service: {
            name: _handler(name, *method, calls, settings.max_body_bytes)
            for name, method in methods.items()
        }
        for service, methods in answered.items()
    }


def _handler(
    name: str, message: Any, work: _Work, calls: Calls, most: int
) -> grpc.RpcMethodHandler:
    """Return the handler of a method, which takes and returns bytes.

    Malformed messages thereby become INVALID_ARGUMENT, where the generated registration answers
    INTERNAL and logs a stack trace, and a message is parsed by the thread of its request. To gRPC
    it is a method with a stream of requests, of which there is one: so the handler begins before
    the message is read, and waits for room for it.
    """

    async def answer(_: Any, context: Any) -> bytes:
        left = context.time_remaining()
        call = Call("GRPC", name, None if left is None else time.monotonic() + left)
        try:
            with calls.place(call) as place:
                data = await _message(context, place, most, calls.body_seconds)
                size = len(data)
                # The only reference to the bytes, which are freed when they have been parsed.
                arrived = [data]
                del data
                return await calls.answer(
                    call, place, lambda: _answer(message, work, arrived, call), size
                )
        except StatusError as failure:
            await context.abort(_GRPC_CODES[failure.code], failure.message)
            raise  # never reached, because abort raises

    return grpc.stream_unary_rpc_method_handler(answer)


async def _message(context: Any, place: Place, most: int, seconds: float) -> bytes:
    """Return the message of a request, of which gRPC does not tell the size before it is read."""
    try:
        async with asyncio.timeout(seconds):
            await place.hold(most)
            data = await place.arriving(context.read())
    except TimeoutError:
        raise StatusError(
            Code.DEADLINE_EXCEEDED, f"The request was not complete within {seconds:g} s."
        ) from None
    if data is grpc.aio.EOF:
        raise invalid("The request has no message.")
    place.keep(len(data))
    return data


def _answer(message: Any, work: _Work, arrived: list[bytes], call: Call) -> bytes:
    """Return the serialized response to a serialized request, which is taken from a list."""
    data = arrived.pop()
    limits.check_fields(data, message.DESCRIPTOR)
    try:
        request = message.FromString(data)
    except DecodeError as error:
        raise invalid(f"The request is not the message of this method: {error}") from error
    del data
    return bytes(work(request, call).SerializeToString())
