"""Requests and results of the client, and their conversion to and from messages of protobuf.

Results are frozen dataclasses with NumPy arrays. Requests equal those of the official stubs byte
for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgpipe.serving import tensors
from imgpipe.serving.client import channel
from imgpipe.serving.client.errors import InvalidArgument, ServingError

PROBABILITIES = "probabilities"
UNLIKE = "unlike"
"""Output: whether each image is unlike all that the model has learned.

A model that has learned from few images does not have it.
"""


@dataclass(frozen=True)
class Classification:
    """Classification of one image."""

    label: str
    """The most probable class."""
    probability: float
    """Probability of the label."""
    top: tuple[tuple[str, float], ...]
    """Pairs of label and probability, most probable first."""
    version: int
    """Version of the model that answered."""
    unlike: bool | None
    """Whether the image is unlike all that the model has learned; None if it cannot tell that."""
    unsure: bool
    """Whether the probability is below the one that was asked for with `unsure_below`."""


@dataclass(frozen=True)
class Prediction:
    """Outputs of one Predict call."""

    outputs: dict[str, np.ndarray]
    model: str
    version: int
    signature_name: str
    """The signature that ran; the server fills in the default name."""


@dataclass(frozen=True)
class VersionStatus:
    """State of one version on the server."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    error_code: int
    """Canonical gRPC status code; 0 is OK."""
    error_message: str


def select(spec: Any, model: str, version: int | None = None) -> None:
    """Write the model into a ModelSpec, and the version unless it is the newest available one."""
    spec.name = model
    if version is not None:
        spec.version.value = version


def predict_request(
    model: str,
    inputs: Mapping[str, Any],
    signature_name: str = "",
    output_filter: Sequence[str] = (),
    version: int | None = None,
) -> Any:
    """Return a PredictRequest. Raises InvalidArgument if an input cannot become a tensor."""
    request = channel.PredictRequest()
    select(request.model_spec, model, version)
    request.model_spec.signature_name = signature_name
    for name, value in inputs.items():
        try:
            tensors.fill_compact(request.inputs[name], value)
        except tensors.TensorError as error:
            raise InvalidArgument(f"Input {name!r}: {error}") from error
    request.output_filter.extend(output_filter)
    return request


def prediction(response: Any) -> Prediction:
    """Convert a PredictResponse; a ServingError names an output that is malformed."""
    outputs: dict[str, np.ndarray] = {}
    for name, tensor in response.outputs.items():
        try:
            outputs[name] = tensors.to_array(tensor)
        except tensors.TensorError as error:
            raise ServingError(f"The server's output {name!r} is malformed: {error}.") from error
    spec = response.model_spec
    return Prediction(outputs, spec.name, spec.version.value, spec.signature_name)


def classifications(
    answer: Prediction, count: int, top: int, unsure_below: float
) -> list[Classification]:
    """Convert the outputs `classes` and `probabilities`, [count, classes], to one result an image.

    Each has at most `top` labels, and is unsure where none is as probable as `unsure_below`. Raises
    InvalidArgument if there are others.
    """
    classes = answer.outputs.get("classes")
    probabilities = answer.outputs.get(PROBABILITIES)
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
    unlike = answer.outputs.get(UNLIKE)
    classified = []
    for number, (names, scores) in enumerate(zip(classes, probabilities)):
        order = np.argsort(-scores, kind="stable")[:top]
        pairs = tuple((_text(names[i]), float(scores[i])) for i in order)
        label, probability = pairs[0]
        is_unlike = None if unlike is None else bool(unlike[number])
        unsure = probability < unsure_below
        classified.append(
            Classification(label, probability, pairs, answer.version, is_unlike, unsure)
        )
    return classified


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def statuses(response: Any) -> list[VersionStatus]:
    """Convert a GetModelStatusResponse to its versions in the server's order, newest first."""
    return [
        VersionStatus(
            item.version,
            channel.STATES.get(item.state, str(item.state)),
            item.status.error_code,
            item.status.error_message,
        )
        for item in response.model_version_status
    ]
