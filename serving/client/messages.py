"""Conversion of Python values to requests and of replies to results, without a connection.

The blocking, the asyncio and the REST client share this module. Requests equal those of the
official stubs byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from imgpipe.serving import tensors
from imgpipe.serving.client import protos, results
from imgpipe.serving.client.errors import InvalidArgument, ServingError

Example = Mapping[str, Any]
"""Features of one tf.Example by name: bytes, str, ints, floats, lists or arrays of them."""


@dataclass(frozen=True)
class Servable:
    """A model, selected by ``version``, by ``label``, or by neither for the newest available."""

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and not -(1 << 63) <= self.version < 1 << 63:
            raise InvalidArgument(
                f"A version is a whole number of 64 bits, such as 3. Received: {self.version}."
            )
        _check_name(self.name)
        _check_name(self.label or "")

    def fill(self, spec: Any, signature_name: str = "") -> None:
        """Write the selection into a ModelSpec.

        Raises:
            InvalidArgument: The name of the signature is not valid text.
        """
        _check_name(signature_name)
        spec.name = self.name
        if self.version is not None:
            spec.version.value = self.version
        elif self.label is not None:
            spec.version_label = self.label
        if signature_name:
            spec.signature_name = signature_name


def _check_name(name: object) -> None:
    try:
        if isinstance(name, str):
            name.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"A name must be valid Unicode text. Received: {name!r}.") from error


_TYPED = np.ndarray | np.generic | bytes | str


def predict_request(
    servable: Servable,
    inputs: Mapping[str, Any],
    signature_name: str = "",
    output_filter: Sequence[str] = (),
) -> Any:
    """Return a PredictRequest.

    Raises:
        InvalidArgument: An input cannot become a tensor; the message names the input.
    """
    request = protos.PredictRequest()
    servable.fill(request.model_spec, signature_name)
    for name, value in inputs.items():
        try:
            tensors.fill_compact(request.inputs[name], value)
        except tensors.TensorError as error:
            raise InvalidArgument(f"Input {name!r}: {error}") from error
    request.output_filter.extend(output_filter)
    return request


def untyped(inputs: Mapping[str, Any]) -> list[str]:
    """Return the names of the inputs that are Python numbers or lists, which have no dtype."""
    return [name for name, value in inputs.items() if not isinstance(value, _TYPED)]


def input_types(response: Any, signature_name: str) -> dict[str, np.dtype[Any]]:
    """Return the dtypes of a signature's inputs by name, from a GetModelMetadataResponse."""
    infos = _inputs(response, signature_name).items()
    dtypes = {name: tensors.dtype_of(info.dtype) for name, info in infos}
    return {
        name: np.dtype(dtype.numpy)
        for name, dtype in dtypes.items()
        if dtype is not None and dtype.number != tensors.STRING
    }


def takes_strings(response: Any, signature_name: str, input_name: str) -> bool:
    """Return whether a signature has an input of strings with this name.

    Args:
        response: A GetModelMetadataResponse.
        signature_name: Name of the signature; empty for ``serving_default``.
        input_name: Name of the input.
    """
    inputs = _inputs(response, signature_name)
    return input_name in inputs and inputs[input_name].dtype == tensors.STRING


def _inputs(response: Any, signature_name: str) -> Mapping[str, Any]:
    """Return the TensorInfos of a signature's inputs; none if there is no such signature."""
    signature = signature_defs(response).get(signature_name or "serving_default")
    return {} if signature is None else signature.inputs


def converted(inputs: Mapping[str, Any], types: Mapping[str, np.dtype[Any]]) -> dict[str, Any]:
    """Convert Python numbers to the dtypes of a signature where no value changes.

    Arrays keep their dtype.
    """
    result = dict(inputs)
    for name in untyped(inputs):
        if name not in types:
            continue
        array = tensors.as_array(inputs[name])
        if array.dtype.kind not in "biuf":
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            cast = array.astype(types[name])
        # Floats are rounded to the nearest value, as over REST; other values must not change.
        if types[name].kind == "f" or np.array_equal(cast, array):
            result[name] = cast
    return result


def prediction(response: Any) -> results.Prediction:
    """Convert a PredictResponse.

    Raises:
        ServingError: An output is malformed; the message names the output.
    """
    outputs: dict[str, np.ndarray] = {}
    for name, tensor in response.outputs.items():
        try:
            outputs[name] = tensors.to_array(tensor)
        except tensors.TensorError as error:
            raise ServingError(f"The server's output {name!r} is malformed: {error}.") from error
    return results.Prediction(outputs, *_source(response.model_spec))


def joined(answers: Sequence[results.Prediction]) -> results.Prediction:
    """Return the rows of several predictions of one version as one prediction."""
    first = answers[0]
    if len(answers) == 1:
        return first
    names = [name for name, array in first.outputs.items() if array.ndim]
    outputs = {name: np.concatenate([one.outputs[name] for one in answers]) for name in names}
    return replace(first, outputs=outputs)


def _source(spec: Any) -> tuple[str, int, str]:
    """Return the model, the version and the signature that answered."""
    return spec.name, spec.version.value, spec.signature_name


# --- images --------------------------------------------------------------------------------------
def classifications(
    answer: results.Prediction, count: int, top: int, views: int = 1
) -> list[results.Classification]:
    """Convert a prediction to one classification for each image.

    Args:
        answer: The outputs ``classes`` and ``probabilities``, both of shape [images * views,
            classes]. The views of an image follow one another.
        count: Number of images.
        top: Number of labels to return for each image, most probable first.
        views: Number of views of each image, whose probabilities are averaged.

    Raises:
        InvalidArgument: The signature does not classify images.
    """
    classes = answer.outputs.get("classes")
    probabilities = answer.outputs.get("probabilities")
    expected = "classes and probabilities, both of shape [images, classes]"
    if classes is None or probabilities is None:
        raise InvalidArgument(
            f"Signature {answer.signature_name!r} of model {answer.model!r} does not classify "
            f"images: expected outputs {expected}, received {sorted(answer.outputs)}."
        )
    if classes.shape != probabilities.shape or classes.ndim != 2 or len(classes) != count * views:
        raise InvalidArgument(
            f"Model {answer.model!r} answered {count * views} images with classes "
            f"{list(classes.shape)} and probabilities {list(probabilities.shape)}; "
            f"expected {expected}."
        )
    means = probabilities.reshape(count, views, -1).mean(axis=1) if views > 1 else probabilities
    said = answer.outputs.get("label")
    labels = said.reshape(count, views) if said is not None and said.size == count * views else None
    # All views of an image have the same classes, so the names of the first view are used.
    result = []
    for number, (names, scores) in enumerate(zip(classes[::views], means, strict=True)):
        # At least one class, because ``label`` is the most probable one even where top is 0.
        order = np.argsort(-scores, kind="stable")[: max(top, 1)]
        pairs = tuple((_text(names[i]), float(scores[i])) for i in order)
        label, probability = pairs[0]
        if labels is not None:
            label = _no_class(labels[number], names) or label
        result.append(results.Classification(label, probability, pairs[:top], answer.version))
    return result


def _no_class(labels: np.ndarray, names: np.ndarray) -> str:
    """Return the label of all views of an image if it is no class, as "unknown"; "" otherwise."""
    first = labels[0]
    if not isinstance(first, str | bytes):  # other models may answer with the number of the class
        return ""
    return "" if (labels != first).any() or (names == first).any() else _text(first)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# --- tf.Examples ---------------------------------------------------------------------------------
_MAX_INT64 = (1 << 63) - 1


def _fill_example(proto: Any, example: Example) -> None:
    for name, value in example.items():
        feature = proto.features.feature[name]
        try:
            flat = tensors.as_array(value).reshape(-1)
        except tensors.TensorError as error:
            raise InvalidArgument(f"Feature {name!r}: {error}") from error
        if flat.dtype == object:
            feature.bytes_list.value.extend(flat.tolist())
        elif flat.dtype.kind == "f":
            feature.float_list.value.extend(flat.tolist())
        elif flat.dtype == np.uint64 and flat.size and flat.max() > _MAX_INT64:
            raise InvalidArgument(
                f"Feature {name!r}: the integers of a tf.Example are int64. Received: {flat.max()}."
            )
        elif flat.dtype.kind in "iub":
            feature.int64_list.value.extend(flat.astype(np.int64).tolist())
        else:
            raise InvalidArgument(
                f"Feature {name!r}: a tf.Example can only hold bytes, floats and ints. "
                f"Received: {flat.dtype}."
            )


def _fill_input(proto: Any, examples: Sequence[Example], context: Example | None) -> None:
    if context is None:
        kind = proto.example_list
    else:
        kind = proto.example_list_with_context
        _fill_example(kind.context, context)
    kind.SetInParent()
    for example in examples:
        _fill_example(kind.examples.add(), example)


def examples_request(
    request: Any,
    servable: Servable,
    examples: Sequence[Example],
    signature_name: str = "",
    context: Example | None = None,
) -> Any:
    """Fill a ClassificationRequest or RegressionRequest; all examples share ``context``."""
    servable.fill(request.model_spec, signature_name)
    _fill_input(request.input, examples, context)
    return request


METHOD_NAMES = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}


def multi_inference_request(
    servable: Servable,
    tasks: Mapping[str, str],
    examples: Sequence[Example],
    context: Example | None = None,
) -> Any:
    """Return a MultiInferenceRequest.

    Args:
        servable: The model.
        tasks: Maps signature names to ``classify`` or ``regress``.
        examples: One mapping of feature names to values for each tf.Example.
        context: Features that all examples share.

    Raises:
        InvalidArgument: A task or a feature is not supported.
    """
    request = protos.MultiInferenceRequest()
    for signature_name, kind in tasks.items():
        if kind not in METHOD_NAMES:
            raise InvalidArgument(
                f"A task must be one of {', '.join(METHOD_NAMES)}. "
                f"Received: {kind!r} for signature {signature_name!r}."
            )
        task = request.tasks.add(method_name=METHOD_NAMES[kind])
        servable.fill(task.model_spec, signature_name)
    _fill_input(request.input, examples, context)
    return request


def rankings(response: Any, field: str = "result") -> results.Rankings:
    """Convert a ClassificationResponse, or another message with its result in ``field``."""
    lists = [
        [(item.label, item.score) for item in ranking.classes]
        for ranking in getattr(response, field).classifications
    ]
    return results.Rankings(lists, *_source(response.model_spec))


def regressions(response: Any, field: str = "result") -> results.Regressions:
    """Convert a RegressionResponse, or another message with its result in ``field``."""
    values = [item.value for item in getattr(response, field).regressions]
    return results.Regressions(np.array(values, np.float32), *_source(response.model_spec))


def inferences(response: Any) -> dict[str, results.Rankings | results.Regressions]:
    """Convert a MultiInferenceResponse to results by signature name."""
    result: dict[str, results.Rankings | results.Regressions] = {}
    for item in response.results:
        field = item.WhichOneof("result") or "regression_result"
        convert = rankings if field == "classification_result" else regressions
        result[item.model_spec.signature_name] = convert(item, field)
    return result


# --- models --------------------------------------------------------------------------------------
def status_request(servable: Servable) -> Any:
    """Return a GetModelStatusRequest; without a version it asks for all versions."""
    request = protos.GetModelStatusRequest()
    servable.fill(request.model_spec)
    return request


def statuses(response: Any) -> list[results.VersionStatus]:
    """Convert a GetModelStatusResponse to its versions in the server's order, newest first."""
    return [
        results.VersionStatus(
            item.version,
            protos.STATES.get(item.state, str(item.state)),
            item.status.error_code,
            item.status.error_message,
        )
        for item in response.model_version_status
    ]


def model_list(response: Any) -> list[results.ModelStatus]:
    """Convert the reply of ListModels, a Struct, to models in the order of the server, by name.

    Raises:
        ServingError: The reply is not a list of models.
    """
    from google.protobuf import json_format  # rarely needed

    def model(entry: Mapping[str, Any]) -> results.ModelStatus:
        status = {"model_version_status": entry["model_version_status"]}
        reply = json_format.ParseDict(
            status, protos.GetModelStatusResponse(), ignore_unknown_fields=True
        )
        labels = {label: int(version) for label, version in entry["version_labels"].items()}
        return results.ModelStatus(str(entry["name"]), statuses(reply), labels)

    try:
        return [model(entry) for entry in json_format.MessageToDict(response)["models"]]
    except (KeyError, TypeError, ValueError, AttributeError, json_format.Error) as error:
        raise no_model_list(error) from error


def no_model_list(error: Exception) -> ServingError:
    """Return the error for a reply that is not a list of models.

    Args:
        error: The error that reading the reply raised.
    """
    return ServingError(
        f"The server's answer is not a list of models ({type(error).__name__}: {error}). "
        "Is the address right?"
    )


def reload_request(config: str) -> Any:
    """Return a ReloadConfigRequest from the text of a models.config.

    Raises:
        InvalidArgument: The text is not a ModelServerConfig; the message says where.
    """
    from google.protobuf import text_format  # rarely needed

    request = protos.ReloadConfigRequest()
    try:
        text_format.Parse(config, request.config, descriptor_pool=protos.POOL)
    except text_format.ParseError as error:
        raise InvalidArgument(
            f"The configuration is not the text of a ModelServerConfig: {error}."
        ) from error
    return request


def metadata_request(servable: Servable) -> Any:
    """Return a GetModelMetadataRequest for the signatures."""
    request = protos.GetModelMetadataRequest()
    servable.fill(request.model_spec)
    request.metadata_field.append("signature_def")
    return request


def signature_defs(response: Any) -> Mapping[str, Any]:
    """Return the SignatureDefs of a GetModelMetadataResponse by name."""
    packed = response.metadata["signature_def"].value
    return protos.SignatureDefMap.FromString(packed).signature_def


def metadata(response: Any) -> results.Metadata:
    """Convert a GetModelMetadataResponse."""
    return results.Metadata(
        response.model_spec.name,
        response.model_spec.version.value,
        {
            name: results.SignatureSpec(
                {key: _tensor_spec(info) for key, info in signature.inputs.items()},
                {key: _tensor_spec(info) for key, info in signature.outputs.items()},
                signature.method_name,
            )
            for name, signature in signature_defs(response).items()
        },
    )


def _tensor_spec(info: Any) -> results.TensorSpec:
    shape = info.tensor_shape
    dims = tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    return results.TensorSpec(
        info.name, tensors.dtype_name(info.dtype), None if shape.unknown_rank else dims
    )
