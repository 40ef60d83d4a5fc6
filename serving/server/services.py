"""The gRPC services: conversion of messages, deadlines, and errors as status codes.

`manager` and `predict` execute the requests; this module only converts the messages.
"""

from __future__ import annotations

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
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from imgpipe.models.errors import ConfigError
from imgpipe.serving import tensors
from imgpipe.serving.server import limits
from imgpipe.serving.server.calls import LARGE_BYTES, Call, Calls, LongCall, conversion
from imgpipe.serving.server.manager import Core
from imgpipe.serving.server.predict import Handle, Spec
from imgpipe.serving.server.request_log import RequestLog
from imgpipe.serving.server.settings import Settings, of_message
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.version import VersionState

# The value of a grpc.StatusCode is a pair of its number and its text.
_GRPC_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
SIGNATURE_DEF = "signature_def"
_PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
_RELOAD_WAIT_S = 600.0
"""Time that a reload waits for its models if the request has no deadline."""


class Services:
    """The methods of PredictionService and ModelService.

    Each takes a request message and its call, which receives for the metrics what ran, and returns
    the response message.
    """

    def __init__(self, core: Core, log: RequestLog, settings: Settings) -> None:
        self._core = core
        self._log = log
        self._settings = settings

    def predict(self, request: Any, call: Call) -> Any:
        """Run any signature with tensors as inputs and outputs; return a PredictResponse.

        Raises:
            StatusError: The request does not fit the model, or the model fails.
        """
        spec = Spec.of(request)
        call.model = spec.name
        name = request.model_spec.signature_name
        wanted = list(request.output_filter)
        with self._core.acquire(spec) as handle:
            call.version = handle.version
            # `predict` looks at the arrays again, as at those of REST; none is converted twice.
            inputs = handle.arrays(name, request.inputs, call)
            del request  # which holds the values of the inputs once more
            outputs = handle.predict(inputs, name, wanted, call=call)
        response = predict_response(handle, call.signature, outputs)
        self._log.record(inputs, response, wanted)
        return response

    def metadata(self, request: Any, call: Call) -> Any:
        """Return the signatures as the model stores them.

        Raises:
            StatusError: The request asks for another field, or the version is not available.
        """
        spec = Spec.of(request)
        if list(request.metadata_field) != [SIGNATURE_DEF]:
            raise invalid(
                f"GetModelMetadata has one metadata_field, {SIGNATURE_DEF}. Received: "
                f"{list(request.metadata_field)}."
            )
        with self._core.acquire(spec) as handle:
            return metadata_response(handle)

    def status(self, request: Any, call: Call) -> Any:
        """Return a GetModelStatusResponse with all versions, newest first, or the requested one.

        Raises:
            StatusError: The server does not know the model or the version.
        """
        spec = Spec.of(request)
        return status_message(self._core.states(spec.name, spec.version))

    def reload(self, request: Any, call: Call) -> Any:
        """Serve another model, and wait until it is available; a StatusError says why it is not."""
        if not self._settings.enable_reload_config_rpc:
            raise StatusError(
                Code.PERMISSION_DENIED,
                "HandleReloadConfigRequest is not enabled on this server: whoever reaches the port "
                "could serve any directory. Start it with --enable_reload_config_rpc to allow it.",
            )
        try:
            model = self._core.reload(of_message(request.config))
        except ConfigError as error:
            raise invalid(str(error)) from error
        left = call.left()
        try:
            model.wait_until_available(
                _RELOAD_WAIT_S if left is None else left, may_come_later=False
            )
        except StatusError as error:
            raise StatusError(
                Code.UNKNOWN,
                f"The model did not become available: {model.config.name}: {error.code.name}: "
                f"{error.message}",
            ) from error
        response = ReloadConfigResponse()
        response.status.SetInParent()
        return response


def predict_response(handle: Handle, signature: str, outputs: Mapping[str, np.ndarray]) -> Any:
    """Return a PredictResponse with the answer of a version."""
    response = PredictResponse()
    response.model_spec.name = handle.name
    response.model_spec.signature_name = signature
    response.model_spec.version.value = handle.version
    for alias, value in outputs.items():
        tensors.fill_typed(response.outputs[alias], value)
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


def handlers(services: Services, calls: Calls) -> dict[str, dict[str, grpc.RpcMethodHandler]]:
    """Return the gRPC handlers of all services, by method by service.

    Args:
        services: What answers.
        calls: Runs the requests; the handlers themselves are coroutines.
    """
    answered: dict[str, dict[str, tuple[Any, _Work]]] = {
        _PREDICTION_SERVICE: {
            "Predict": (PredictRequest, services.predict),
            "GetModelMetadata": (GetModelMetadataRequest, services.metadata),
        },
        "tensorflow.serving.ModelService": {
            "GetModelStatus": (GetModelStatusRequest, services.status),
            "HandleReloadConfigRequest": (ReloadConfigRequest, services.reload),
        },
    }
    return {
        service: {name: _handler(name, *method, calls) for name, method in methods.items()}
        for service, methods in answered.items()
    }


_Work: TypeAlias = Callable[[Any, Call], Any]
"""Makes the response to a request, and tells the call what ran."""


def _handler(name: str, message: Any, work: _Work, calls: Calls) -> grpc.RpcMethodHandler:
    """Return the handler of a method, which takes and returns bytes.

    There are two reasons for bytes: malformed messages become INVALID_ARGUMENT, where the generated
    registration answers INTERNAL and logs a stack trace; and a large message is parsed by the
    thread of its request, not the event loop.
    """

    async def answer(data: bytes, context: Any) -> bytes:
        left = context.time_remaining()
        deadline = None if left is None else time.monotonic() + left
        call = Call("GRPC", name, deadline)
        try:
            return await calls.answer(call, lambda: _answer(message, work, data, call), len(data))
        except StatusError as failure:
            code = _GRPC_CODES[failure.code]
            await context.abort(code, failure.message)
            raise  # never reached, because abort raises
        finally:
            # gRPC keeps the error of `abort` together with this frame until the next collection
            # of garbage, and would keep the bytes of the request.
            data = b""

    return grpc.unary_unary_rpc_method_handler(answer)


def _answer(message: Any, work: _Work, data: bytes, call: Call) -> bytes:
    """Return the serialized response to a serialized request."""
    if len(data) > LARGE_BYTES and not call.is_long:
        raise LongCall(call)  # it may wait for its turn to be converted
    call.size = len(data)
    response = work(_parsed(message, data), call)
    with conversion(response.ByteSize()):
        return bytes(response.SerializeToString())


def _parsed(message: Any, data: bytes) -> Any:
    with conversion(len(data), arrived=True):
        limits.check_fields([data], message.DESCRIPTOR)
        try:
            return message.FromString(data)
        except DecodeError as error:
            raise invalid(f"The request is not the message of this method: {error}") from error
