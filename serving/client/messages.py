"""Requests from plain values and plain records from replies: all that needs no connection.

Kept apart from the transport, so that every kind of client (blocking, asyncio, REST) shares it.
Requests equal those of the official stubs byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving import tensors
from serving.client import protos
from serving.client.errors import InvalidArgument, ServingError
from serving.client.results import (
    Classification,
    Metadata,
    Prediction,
    SignatureSpec,
    TensorSpec,
    VersionStatus,
)


def _spec(request: Any, model: str, version: int | None) -> Any:
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    return request


def predict_request(
    model: str,
    version: int | None,
    inputs: Mapping[str, Any],
    signature_name: str = "",
    output_filter: Sequence[str] = (),
) -> Any:
    """A PredictRequest; ``version`` None asks for the newest that is available.

    Raises:
        InvalidArgument: an input cannot become a tensor; names the input.
    """
    request = _spec(protos.PredictRequest(), model, version)
    if signature_name:
        request.model_spec.signature_name = signature_name
    for name, value in inputs.items():
        try:
            tensors.fill_compact(request.inputs[name], value)
        except tensors.TensorError as error:
            raise InvalidArgument(f"Input {name!r}: {error}") from error
    request.output_filter.extend(output_filter)
    return request


def prediction(response: Any) -> Prediction:
    """The content of a PredictResponse."""
    outputs: dict[str, np.ndarray] = {}
    for name, tensor in response.outputs.items():
        try:
            outputs[name] = tensors.to_array(tensor)
        except tensors.TensorError as error:
            raise ServingError(f"The server's output {name!r} is malformed: {error}.") from error
    spec = response.model_spec
    return Prediction(outputs, spec.name, spec.version.value, spec.signature_name)


def classifications(answer: Prediction, count: int, top: int) -> list[Classification]:
    """One record for each of ``count`` images, with the ``top`` most probable labels.

    Reads ``classes`` and ``probabilities``, both [N, C].

    Raises:
        InvalidArgument: the signature is not one that classifies images.
    """
    classes = answer.outputs.get("classes")
    probabilities = answer.outputs.get("probabilities")
    expected = "classes and probabilities, both of shape [images, classes]"
    if classes is None or probabilities is None:
        raise InvalidArgument(
            f"Signature {answer.signature_name!r} of model {answer.model!r} does not classify "
            f"images: expected outputs {expected}, received {sorted(answer.outputs)}."
        )
    if classes.shape != probabilities.shape or classes.ndim != 2 or len(classes) != count:
        raise InvalidArgument(
            f"Model {answer.model!r} answered {count} images with classes {list(classes.shape)} "
            f"and probabilities {list(probabilities.shape)}; expected {expected}."
        )
    result = []
    for names, scores in zip(classes, probabilities, strict=True):
        order = np.argsort(-scores, kind="stable")[: max(top, 1)]
        pairs = tuple((_text(names[i]), float(scores[i])) for i in order)
        label, probability = pairs[0]
        result.append(Classification(label, probability, pairs[:top], answer.version))
    return result


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def status_request(model: str, version: int | None = None) -> Any:
    """A GetModelStatusRequest; without a version it asks for all."""
    return _spec(protos.GetModelStatusRequest(), model, version)


def statuses(response: Any) -> list[VersionStatus]:
    """The versions of a GetModelStatusResponse, in the server's order: newest first."""
    return [
        VersionStatus(
            item.version,
            protos.STATES.get(item.state, str(item.state)),
            item.status.error_code,
            item.status.error_message,
        )
        for item in response.model_version_status
    ]


def metadata_request(model: str, version: int | None = None) -> Any:
    """A GetModelMetadataRequest for the signatures."""
    request = _spec(protos.GetModelMetadataRequest(), model, version)
    request.metadata_field.append("signature_def")
    return request


def metadata(response: Any) -> Metadata:
    """The signatures of a GetModelMetadataResponse."""
    packed = response.metadata["signature_def"].value
    signatures = protos.SignatureDefMap.FromString(packed).signature_def
    return Metadata(
        response.model_spec.name,
        response.model_spec.version.value,
        {
            name: SignatureSpec(
                {key: _tensor_spec(info) for key, info in signature.inputs.items()},
                {key: _tensor_spec(info) for key, info in signature.outputs.items()},
                signature.method_name,
            )
            for name, signature in signatures.items()
        },
    )


def _tensor_spec(info: Any) -> TensorSpec:
    shape = info.tensor_shape
    dims = tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    return TensorSpec(
        info.name, tensors.dtype_name(info.dtype), None if shape.unknown_rank else dims
    )
