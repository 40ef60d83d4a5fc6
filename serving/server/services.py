"""The gRPC services: conversion of messages, deadlines, and errors as status codes.

``handle`` and ``core`` execute the requests; this module only converts the messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from imgpipe.serving import tensors
from imgpipe.serving.server import status
from imgpipe.serving.server.core import Core
from imgpipe.serving.server.monitoring.request_log import RequestLogs
from imgpipe.serving.server.requests.calls import Call, Calls
from imgpipe.serving.server.requests.examples import CLASSIFY, REGRESS, ExampleAnswers, Task
from imgpipe.serving.server.requests.handle import Handle, Spec
from imgpipe.serving.server.requests.pool import Refused, SheddingPool
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.versions import config as configs
from imgpipe.serving.server.versions.manager import VersionState

# The value of a grpc.StatusCode is a pair of its number and its text.
_GRPC_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
SIGNATURE_DEF = "signature_def"
_OBSERVED = frozenset(["Predict", "Classify", "Regress", "MultiInference"])
"""The methods whose calls are counted and logged: those of inference."""
_RELOAD_WAIT_S = 600.0
"""Time that a reload waits for its models if the request has no deadline."""


@dataclass(frozen=True)
class ServiceOptions:
    """What the services allow, and the form of their answers."""

    as_tensor_content: bool = False
    """Write the numbers of an answer as raw bytes instead of ``*_val`` fields."""
    allow_reload: bool = False
    """Let every client that reaches the port change the served models."""
    count: Callable[[str], int] = field(default=lambda name: 0, repr=False)
    """Return the value of a metric; a reload answers by how much the metrics have grown."""


class PredictionService:
    """Inference and the description of signatures.

    Each method takes a request message and its call, and returns the response message. The call
    receives the model, the version and the number of rows for the log. Every method raises a
    ``StatusError`` if the request does not fit the model, or if the model fails.
    """

    def __init__(self, core: Core, logs: RequestLogs, options: ServiceOptions) -> None:
        self._core, self._logs, self._options = core, logs, options

    def predict(self, request: Any, call: Call) -> Any:
        """Run any signature with tensors as inputs and outputs.

        Args:
            request: The PredictRequest.
            call: The call; receives the model, the version and the number of rows for the log.

        Returns:
            The PredictResponse.

        Raises:
            StatusError: The request does not fit the model, or the model fails.
        """
        spec = Spec.of(request)
        call.model = spec.name
        with self._core.acquire(spec) as handle:
            call.version = handle.version
            name = request.model_spec.signature_name
            answer = handle.predict(
                request.inputs, name, request.output_filter, timeout=call.left()
            )
        call.signature, call.rows = answer.signature_name, answer.rows
        call.run_seconds = answer.run_seconds
        response = predict_pb2.PredictResponse()
        _write_spec(response.model_spec, handle, answer.signature_name)
        write = tensors.fill_compact if self._options.as_tensor_content else tensors.fill_typed
        for alias, value in answer.outputs.items():
            write(response.outputs[alias], value)
        self._log(handle, "predict_log", request, response)
        return response

    def classify(self, request: Any, call: Call) -> Any:
        """Run a classification signature on tf.Examples; return a ClassificationResponse.

        Raises:
            StatusError: The request does not fit the model, or the model fails.
        """
        response = classification_pb2.ClassificationResponse()
        return self._examples(request, call, CLASSIFY, response, "classify_log")

    def regress(self, request: Any, call: Call) -> Any:
        """Run a regression signature on tf.Examples; return a RegressionResponse.

        Raises:
            StatusError: The request does not fit the model, or the model fails.
        """
        response = regression_pb2.RegressionResponse()
        return self._examples(request, call, REGRESS, response, "regress_log")

    def _examples(self, request: Any, call: Call, method: str, response: Any, log: str) -> Any:
        spec = Spec.of(request)
        call.model = spec.name
        with self._core.acquire(spec) as handle:
            call.version = handle.version
            task = Task.of(method, request)
            answers = handle.infer([task], request.input, timeout=call.left())
        _fill_call(call, [task], answers)
        response.result.CopyFrom(answers.results[0])
        _write_spec(response.model_spec, handle, task.signature_name)
        self._log(handle, log, request, response)
        return response

    def multi_inference(self, request: Any, call: Call) -> Any:
        """Run several signatures of one model on the same tf.Examples.

        Args:
            request: The MultiInferenceRequest.
            call: The call; receives the model, the version and the number of rows for the log.

        Returns:
            The MultiInferenceResponse, with one result for each task in their order.

        Raises:
            StatusError: The tasks do not fit together or the model, or the model fails.
        """
        if not request.tasks:
            raise invalid("MultiInferenceRequest::tasks is empty.")
        spec, tasks = _tasks(request)
        call.model = spec.name
        with self._core.acquire(spec) as handle:
            call.version = handle.version
            answers = handle.infer(tasks, request.input, timeout=call.left(), multi=True)
        _fill_call(call, tasks, answers)
        response = inference_pb2.MultiInferenceResponse()
        for task, result in zip(tasks, answers.results, strict=True):
            item = response.results.add()
            kind = "classification" if task.method == CLASSIFY else "regression"
            getattr(item, f"{kind}_result").CopyFrom(result)
            _write_spec(item.model_spec, handle, task.signature_name)
        self._log(handle, "multi_inference_log", request, response)
        return response

    def _log(self, handle: Handle, kind: str, request: Any, response: Any) -> None:
        config = self._core.request_log(handle.name)
        if config is not None:
            self._logs.record(config, kind, request, response, handle.name, handle.version)

    def metadata(self, request: Any, call: Call) -> Any:
        """Return the signatures as the model stores them.

        Raises:
            StatusError: INVALID_ARGUMENT, the request asks for no field or for an unknown one;
                NOT_FOUND, the version is not available.
        """
        spec = Spec.of(request)
        call.model = spec.name
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != SIGNATURE_DEF:
                raise invalid(f"Metadata field {name} is not supported")
        with self._core.acquire(spec) as handle:
            call.version = handle.version
            return metadata_response(handle)


def metadata_response(handle: Handle) -> Any:
    """Return a GetModelMetadataResponse with the SignatureDefMap of a version."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for key, signature in handle.signatures.items():
        signatures.signature_def[key].CopyFrom(signature)
    response.model_spec.name = handle.name
    response.model_spec.version.value = handle.version
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def _write_spec(spec: Any, handle: Handle, signature_name: str) -> None:
    spec.name = handle.name
    spec.signature_name = signature_name
    spec.version.value = handle.version


def _fill_call(call: Call, tasks: Sequence[Task], answers: ExampleAnswers) -> None:
    call.rows, call.run_seconds = answers.rows, answers.run_seconds
    call.signature = ",".join(task.signature_name for task in tasks)


def _tasks(request: Any) -> tuple[Spec, list[Task]]:
    """Return the spec that all tasks share, with the version of the first task, and the tasks."""
    tasks: dict[str, Task] = {}
    first = request.tasks[0].model_spec
    for asked in request.tasks:
        if not asked.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if asked.model_spec.name != first.name:
            raise invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        task = Task.of(asked.method_name, asked)
        if task.signature_name in tasks:
            raise invalid(f"Duplicate evaluation of signature: {task.signature_name}")
        if task.method not in (CLASSIFY, REGRESS):
            raise StatusError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method}"
            )
        tasks[task.signature_name] = task
    return Spec.of_spec(first), list(tasks.values())


class ModelService:
    """The state of the versions, and changes of the served models."""

    def __init__(self, core: Core, options: ServiceOptions) -> None:
        self._core, self._options = core, options

    def status(self, request: Any, call: Call) -> Any:
        """Return a GetModelStatusResponse with all versions, newest first, or the requested one.

        Raises:
            StatusError: INVALID_ARGUMENT, the request names no model; NOT_FOUND, the server does
                not know the model or the version.
        """
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        call.model = spec.name
        # A version label is ignored here, as in TensorFlow Serving.
        by_number = spec.WhichOneof("version_choice") == "version"
        version = spec.version.value if by_number else None
        return status_message(self._core.states(spec.name, version))

    def reload(self, request: Any, call: Call) -> Any:
        """Serve other models, and wait until they are available.

        Args:
            request: The ReloadConfigRequest. It may name metrics.
            call: The call, whose deadline limits the wait.

        Returns:
            The ReloadConfigResponse, with the growth of each named metric during the reload.

        Raises:
            StatusError: PERMISSION_DENIED, the server does not allow reloads; otherwise the
                configuration is wrong, or a model does not become available.
        """
        if not self._options.allow_reload:
            raise StatusError(
                Code.PERMISSION_DENIED,
                "HandleReloadConfigRequest is not enabled on this server: whoever reaches the port "
                "could serve any directory. Start it with --enable_reload_config_rpc to allow it.",
            )
        left = call.left()
        wait = _RELOAD_WAIT_S if left is None else left
        count, names = self._options.count, dict.fromkeys(request.metric_names)
        before = {name: count(name) for name in names}
        # A wait of 0 would mean not to wait at all.
        self._core.reload(configs.from_proto(request.config), wait=max(wait, 0.001))
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=count(name) - value)
        return response


def status_message(states: Sequence[VersionState]) -> Any:
    """Return a GetModelStatusResponse with the given states of versions."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for state in states:
        item = response.model_version_status.add(version=state.version, state=int(state.state))
        item.status.error_code = state.code
        item.status.error_message = status.truncate(state.message)
    return response


Work = Callable[[Any, Call], Any]


def handlers(
    core: Core, calls: Calls, logs: RequestLogs, options: ServiceOptions, pool: SheddingPool
) -> list[Any]:
    """Return the gRPC handlers of both services.

    Args:
        core: The served models.
        calls: Counts and logs the calls of inference.
        logs: Where a share of the requests is kept.
        options: What the services allow.
        pool: The threads that do the work; the handlers themselves are coroutines.
    """
    prediction = PredictionService(core, logs, options)
    models = ModelService(core, options)
    services: dict[str, dict[str, tuple[Any, Work]]] = {
        "PredictionService": {
            "Predict": (predict_pb2.PredictRequest, prediction.predict),
            "Classify": (classification_pb2.ClassificationRequest, prediction.classify),
            "Regress": (regression_pb2.RegressionRequest, prediction.regress),
            "MultiInference": (inference_pb2.MultiInferenceRequest, prediction.multi_inference),
            "GetModelMetadata": (
                get_model_metadata_pb2.GetModelMetadataRequest,
                prediction.metadata,
            ),
        },
        "ModelService": {
            "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, models.status),
            "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, models.reload),
        },
    }
    unobserved = Calls()
    return [
        grpc.method_handlers_generic_handler(
            f"tensorflow.serving.{service}",
            {
                name: _handler(name, *method, calls if name in _OBSERVED else unobserved, pool)
                for name, method in methods.items()
            },
        )
        for service, methods in services.items()
    ]


def _handler(name: str, message: Any, work: Work, calls: Calls, pool: SheddingPool) -> Any:
    """Return the gRPC handler of one method.

    It takes and returns bytes for two reasons: malformed messages become INVALID_ARGUMENT, where
    the generated registration answers INTERNAL and logs a stack trace; and a large message is
    parsed by the thread of its request, not the event loop.
    """

    def run(data: bytes, call: Call) -> bytes:
        try:
            request = message.FromString(data)
        except DecodeError as error:
            raise invalid(f"The request is not the message of this method: {error}") from error
        return bytes(work(request, call).SerializeToString())

    async def answer(data: bytes, context: Any) -> bytes:
        waiting = True
        left = context.time_remaining()
        deadline = None if left is None else time.monotonic() + left
        call = Call(name, "GRPC", context.peer(), len(data), deadline, lambda: waiting)
        try:
            return await pool.run(lambda: calls.run(call, lambda call: run(data, call)), len(data))
        except StatusError as failure:
            if isinstance(failure, Refused):
                calls.refuse(call, failure)
            code = _GRPC_CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
            await context.abort(code, status.truncate(failure.message))
            raise  # never reached, because abort raises
        finally:
            # gRPC cancels this coroutine when the client leaves. A request that is still in the
            # queue of the pool is then not run.
            waiting = False

    return grpc.unary_unary_rpc_method_handler(answer)
