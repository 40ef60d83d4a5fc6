"""Conversion between the JSON of the REST interface and the messages of the gRPC interface.

Requests and replies are always protobuf messages, so that both interfaces share everything above
the transport. The model's metadata supply what JSON lacks: the dtypes of the outputs and the
version that answered.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import numpy as np
from google.protobuf import json_format, struct_pb2

from imgpipe.serving import tensors
from imgpipe.serving.client import protos
from imgpipe.serving.client.errors import InvalidArgument, ServingError
from imgpipe.serving.client.messages import no_model_list, signature_defs
from imgpipe.serving.client.protos import Method

DEFAULT_SIGNATURE = "serving_default"
VERBS = {"Predict": "predict", "Classify": "classify", "Regress": "regress"}
"""The name in a URL path of each inference RPC."""
MODELS_PATH = "/v1/server/models"
"""Path of the list of all models, which only the embedded server has."""
_SURROGATE = b"\\ud"  # how JSON writes the code points that stand in pairs only

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RecursionError, json_format.Error)
"""What reading a malformed answer raises."""


def model_path(spec: Any, version: int | None = None) -> str:
    """Return the path ``/v1/models/…`` of a ModelSpec; ``version`` overrides that of the spec."""
    path = f"/v1/models/{quote(spec.name, safe='')}"
    choice = spec.WhichOneof("version_choice")
    if version is not None:
        return f"{path}/versions/{version}"
    if choice == "version":
        return f"{path}/versions/{spec.version.value}"
    if choice == "version_label":
        return f"{path}/labels/{quote(spec.version_label, safe='')}"
    return path


def action_path(method: Method, spec: Any, version: int | None = None) -> str:
    """Return the path for inference requests; ``version`` overrides that of the spec."""
    return f"{model_path(spec, version)}:{VERBS[method.name]}"


# --- requests ------------------------------------------------------------------------------------
def request_body(method: Method, request: Any) -> bytes:
    """Return the JSON of a Classify, Regress or Predict request, the latter in column format.

    Raises:
        InvalidArgument: An input has a complex dtype, which does not exist in JSON.
    """
    body: dict[str, Any] = {}
    if request.model_spec.signature_name:
        body["signature_name"] = request.model_spec.signature_name
    if method.name == "Predict":
        body["inputs"] = {name: _json_tensor(proto) for name, proto in request.inputs.items()}
    else:
        kind = request.input.WhichOneof("kind")
        listed = getattr(request.input, kind) if kind else request.input.example_list
        if kind == "example_list_with_context":
            body["context"] = _json_example(listed.context)
        body["examples"] = [_json_example(example) for example in listed.examples]
    return json.dumps(body).encode()


def _json_tensor(proto: Any) -> Any:
    array = tensors.to_array(proto)
    if array.dtype.kind == "c":
        raise InvalidArgument("Complex numbers do not exist in the REST interface. Use gRPC.")
    return _json_value(array.tolist())


def _json_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value


def _json_example(example: Any) -> dict[str, Any]:
    result = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = _json_value(list(getattr(feature, kind).value)) if kind else []
        result[name] = values[0] if len(values) == 1 else values
    return result


# --- replies -------------------------------------------------------------------------------------
def metadata_reply(content: bytes) -> Any:
    """Return the GetModelMetadataResponse for the body of ``GET …/metadata``.

    Raises:
        ServingError: The body is not such an answer.
    """
    body = _parsed(content)
    reply = protos.GetModelMetadataResponse()
    with _reading("metadata"):
        json_format.ParseDict(body["model_spec"], reply.model_spec, ignore_unknown_fields=True)
        signatures = protos.SignatureDefMap()
        described = body["metadata"]["signature_def"]
        described.pop("@type", None)  # TensorFlow Serving writes the field as an Any
        json_format.ParseDict(described, signatures, ignore_unknown_fields=True)
    reply.metadata["signature_def"].Pack(signatures)
    return reply


def status_reply(content: bytes) -> Any:
    """Return the GetModelStatusResponse for the body of ``GET /v1/models/NAME``.

    Raises:
        ServingError: The body is not such an answer.
    """
    reply = protos.GetModelStatusResponse()
    with _reading("status"):
        return json_format.ParseDict(_parsed(content), reply, ignore_unknown_fields=True)


def models_reply(content: bytes) -> Any:
    """Return the Struct of ListModels for the body of ``GET /v1/server/models``.

    Raises:
        ServingError: The body is not such an answer.
    """
    try:
        return json_format.ParseDict(_parsed(content), struct_pb2.Struct())
    except _MALFORMED as error:
        raise no_model_list(error) from error


def inference_reply(method: Method, request: Any, metadata: Any, content: bytes) -> Any:
    """Return the response message of an inference request.

    Args:
        method: Predict, Classify or Regress.
        request: The request message.
        metadata: The GetModelMetadataResponse of the version that answered.
        content: The body of the answer.

    Raises:
        ServingError: The body is not such an answer.
        InvalidArgument: The output filter of the request names an unknown output.
    """
    body, reply = _parsed(content), method.response()
    reply.model_spec.name = request.model_spec.name
    reply.model_spec.version.value = metadata.model_spec.version.value
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    reply.model_spec.signature_name = name
    with _reading(method.name):
        if method.name == "Predict":
            outputs = signature_defs(metadata)[name].outputs
            _fill_outputs(reply, outputs, body["outputs"], list(request.output_filter))
        elif method.name == "Classify":
            for pairs in body["results"]:
                ranking = reply.result.classifications.add()
                for label, score in pairs:
                    # A label that is not UTF-8 arrives as {"b64": "…"}, and over gRPC as its text.
                    text = label if isinstance(label, str) else json.dumps(label)
                    ranking.classes.add(label=text, score=score)
        else:
            for value in body["results"]:
                reply.result.regressions.add(value=value)
    return reply


def _fill_outputs(
    reply: Any, infos: Mapping[str, Any], values: Any, output_filter: list[str]
) -> None:
    if len(infos) == 1:
        values = {next(iter(infos)): values}  # REST omits the name of a single output
    for name in output_filter or infos:
        if name not in infos:  # REST has no output filter; this is the message over gRPC
            known = ",".join(sorted(infos))
            raise InvalidArgument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in "
                f"the set {{{known}}}."
            )
        tensors.fill_typed(reply.outputs[name], _array(values[name], infos[name].dtype))


def _array(value: Any, dtype: int) -> np.ndarray:
    kind = tensors.dtype_of(dtype)
    if kind is None:
        raise ValueError(f"dtype {dtype} cannot be sent as JSON values")
    if kind.number == tensors.STRING:
        return tensors.as_array(_bytes(value))
    return np.array(value, kind.numpy)


def _bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value


def error_text(content: bytes) -> str:
    """Return the error message in the body of an answer, or else the beginning of the body."""
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return content[:200].decode("utf-8", "replace").strip()


def _parsed(content: bytes) -> Any:
    with _reading("JSON"):
        body = json.loads(content)
        if _SURROGATE in content.lower():  # alone it is no text, and protobuf fails on it
            json.dumps(body, ensure_ascii=False).encode()
        return body


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Raise a ServingError where an answer is not what was asked for."""
    try:
        yield
    except _MALFORMED as error:
        raise ServingError(
            f"The server's answer is not the {what} of TensorFlow Serving's REST interface "
            f"({type(error).__name__}: {error}). Is the address right?"
        ) from error
