"""The gRPC services: which model a request means, its deadline, and errors as statuses.

Every RPC of tensorflow.serving has its place; those of a later day answer UNIMPLEMENTED and say
what to use instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.server import status
from serving.server.manager import ModelManager, not_found
from serving.server.predict import predict
from serving.server.status import Code, StatusError, invalid

_log = logging.getLogger(__name__)
_GRPC_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Models = Mapping[str, ModelManager]


def _answer(work: Callable[[Any], Any], request: Any, context: Any) -> Any:
    """``work(request)``, or the RPC aborted with the status of what it raised."""
    try:
        left = context.time_remaining()
        # It may have waited in the queue until nobody listened any more.
        if left is not None and left <= 0:
            raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded before the request ran.")
        if not context.is_active():
            raise StatusError(Code.CANCELLED, "Cancelled before the request ran.")
        if isinstance(request, DecodeError):
            raise invalid(f"The request is not the message of this method: {request}")
        return work(request)
    except Exception as error:
        failure = status.from_exception(error)
        if failure.code == Code.INTERNAL:
            _log.exception("internal error")
        code = _GRPC_CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
        return context.abort(code, status.truncate(failure.message))


def _model_of(models: Models, request: Any) -> tuple[ModelManager, int | None]:
    """The model and version (None: newest) that the request's spec means."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    kind = spec.WhichOneof("version_choice")
    version = spec.version.value if kind == "version" else None
    model = models.get(spec.name)
    if kind == "version_label":
        raise invalid(f"Unrecognized servable version label: {spec.version_label}")
    if model is None:
        raise not_found(spec.name, version)
    return model, version


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Inference and the description of signatures."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def Predict(self, request: Any, context: Any) -> Any:
        """Any signature, tensors in and out."""
        return _answer(self._predict, request, context)

    def _predict(self, request: Any) -> Any:
        model, version = _model_of(self._models, request)
        with model.acquire(version) as (served, runtime):
            return predict(runtime, request, model.config.name, served)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """The signatures, as the model stores them."""
        return _answer(self._metadata, request, context)

    def _metadata(self, request: Any) -> Any:
        model, version = _model_of(self._models, request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with model.acquire(version) as (served, runtime):
            for key, signature in runtime.signatures.items():
                signatures.signature_def[key].CopyFrom(signature)
        response.model_spec.name = model.config.name
        response.model_spec.version.value = served
        response.metadata["signature_def"].Pack(signatures)
        return response

    def Classify(self, request: Any, context: Any) -> Any:
        """Not offered."""
        return _answer(lambda _: _unimplemented("Classify"), request, context)

    def Regress(self, request: Any, context: Any) -> Any:
        """Not offered."""
        return _answer(lambda _: _unimplemented("Regress"), request, context)

    def MultiInference(self, request: Any, context: Any) -> Any:
        """Not offered."""
        return _answer(lambda _: _unimplemented("MultiInference"), request, context)


def _unimplemented(method: str) -> NoReturn:
    raise StatusError(
        Code.UNIMPLEMENTED,
        f"{method} is not offered by this server. Use Predict, with the serialized tf.Examples as "
        "the signature's input.",
    )


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """State of the versions; the configuration is not changed over the wire."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Every version newest first, or the one that is asked for."""
        return _answer(self._status, request, context)

    def _status(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        model = self._models.get(spec.name)
        states = model.states() if model else []
        # A version label is ignored here, as in TensorFlow Serving.
        if spec.WhichOneof("version_choice") == "version":
            wanted = spec.version.value
            states = [line for line in states if line.version == wanted]
            if not states:
                raise StatusError(
                    Code.NOT_FOUND, f"Could not find version {wanted} of model {spec.name}"
                )
        if not states:
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for line in states:
            item = response.model_version_status.add(version=line.version, state=int(line.state))
            item.status.error_code = line.code
            item.status.error_message = status.truncate(line.message)
        return response

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        """Refused: whoever reaches the port could serve any directory of the machine."""
        return _answer(lambda _: _refuse_reload(), request, context)


def _refuse_reload() -> NoReturn:
    raise StatusError(
        Code.PERMISSION_DENIED,
        "HandleReloadConfigRequest is not enabled on this server. Restart it with other models.",
    )


_REQUESTS: dict[str, dict[str, Any]] = {
    "PredictionService": {
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
        "Predict": predict_pb2.PredictRequest,
        "MultiInference": inference_pb2.MultiInferenceRequest,
        "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    },
    "ModelService": {
        "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
        "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
    },
}


def _reader(message: Any) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return message.FromString(data)
        except DecodeError as error:
            return error

    return read


def handlers(models: Models) -> list[Any]:
    """gRPC handlers of both services.

    The stubs' own registration lets gRPC parse the request: bytes that are none become INTERNAL
    and a stack trace in the log, once for each. Here they are the sender's INVALID_ARGUMENT.
    """
    services = {
        "PredictionService": PredictionService(models),
        "ModelService": ModelService(models),
    }
    return [
        grpc.method_handlers_generic_handler(
            f"tensorflow.serving.{name}",
            {
                method: grpc.unary_unary_rpc_method_handler(
                    getattr(service, method),
                    request_deserializer=_reader(_REQUESTS[name][method]),
                    response_serializer=lambda reply: reply.SerializeToString(),
                )
                for method in _REQUESTS[name]
            },
        )
        for name, service in services.items()
    ]
