"""One PredictRequest on one loaded version, with TensorFlow Serving's checks and messages.

The order of checks and the texts follow servables/tensorflow/predict_util.cc and
tensorflow/cc/saved_model/util.cc.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving import tensors
from serving.server import status
from serving.server.runtime import Runtime
from serving.server.status import Code, StatusError

DEFAULT_SIGNATURE = "serving_default"


def predict(runtime: Runtime, request: Any, model: str, version: int) -> Any:
    """The PredictResponse for ``request``; its spec names the signature and version that ran.

    Raises:
        StatusError: the request does not fit the model, or the graph fails on its values.
    """
    key = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = runtime.signatures.get(key)
    if signature is None:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
    _check_count(signature, request.inputs)
    feeds, values = _inputs(signature, request.inputs)
    aliases = _outputs(signature, request.output_filter)
    names = [signature.outputs[alias].name for alias in aliases]
    fetches = sorted(set(names))  # one tensor may stand under several aliases
    try:
        results = dict(zip(fetches, runtime.run(feeds, values, fetches), strict=True))
    except Exception as error:
        raise status.from_exception(error) from error

    response = predict_pb2.PredictResponse()
    response.model_spec.name = model
    response.model_spec.signature_name = key
    response.model_spec.version.value = version
    for alias, name in zip(aliases, names, strict=True):
        tensors.fill_typed(response.outputs[alias], np.asarray(results[name]))
    return response


def _set(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _check_count(signature: Any, sent: Any) -> None:
    expected = set(signature.inputs)
    if len(sent) == len(expected) or (len(sent) < len(expected) and signature.defaults):
        return
    raise status.invalid(
        f"input size does not match signature: {len(sent)}!={len(expected)} "
        f"len({{{_set(sent)}}}) != len({{{_set(expected)}}}). "
        f"Sent extra: {{{_set(set(sent) - expected)}}}. "
        f"Missing but required: {{{_set(expected - set(sent))}}}."
    )


def _inputs(signature: Any, sent: Any) -> tuple[list[str], list[np.ndarray]]:
    feeds: list[str] = []
    values: list[np.ndarray] = []
    used: list[str] = []
    for index, alias in enumerate(sorted(signature.inputs)):
        info = signature.inputs[alias]
        if alias in sent:
            proto = sent[alias]
            used.append(alias)
        elif alias in signature.defaults:
            proto = signature.defaults[alias]
        else:
            raise status.invalid(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and "
                f"no default value provided. Inputs expected to be in the request {{{_set(sent)}}},"
                f" or default input alias set: {_set(signature.defaults)}"
            )
        try:
            value = tensors.to_array(proto)
        except tensors.TensorError as error:
            raise status.invalid(f"tensor parsing error: {alias} ({error})") from error
        if proto.dtype != info.dtype:
            raise status.invalid(
                f"Expects arg[{index}] to be {tensors.dtype_name(info.dtype)} but "
                f"{tensors.dtype_name(proto.dtype)} is provided"
            )
        feeds.append(info.name)
        values.append(value)
    if sent and len(used) != len(sent):
        raise status.invalid(
            f"Inputs contains invalid name. Used request inputs: {_set(used)}, "
            f"request input: {_set(sent)}"
        )
    return feeds, values


def _outputs(signature: Any, output_filter: Sequence[str]) -> list[str]:
    for index, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise status.invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_set(signature.outputs)}}}."
            )
        if alias in output_filter[:index]:
            raise status.invalid(f"duplicate output tensor alias: {alias}")
    return list(output_filter) or sorted(signature.outputs)
