"""Predict on one loaded version, with TensorFlow Serving's checks and messages.

The checks, their order and their messages follow servables/tensorflow/predict_util.cc and
tensorflow/cc/saved_model/util.cc. Inputs are TensorProtos (gRPC) or arrays (REST). Outputs are
arrays, which each interface writes in its own format.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgpipe.serving import tensors
from imgpipe.serving.server import status
from imgpipe.serving.server.requests.limits import Limits
from imgpipe.serving.server.runtimes.runtime import Runtime
from imgpipe.serving.server.signature_names import DEFAULT_SIGNATURE
from imgpipe.serving.server.status import Code, StatusError


@dataclass(frozen=True)
class Prediction:
    """Result of Predict."""

    signature_name: str
    """Name of the signature that ran, even if the request named none."""
    outputs: dict[str, np.ndarray]
    """Output arrays by name."""
    run_seconds: float
    """Time in seconds that the model itself took."""
    rows: int
    """Size of the first dimension of the first input; 1 for a scalar."""


def predict(
    runtime: Runtime,
    inputs: Mapping[str, Any],
    signature_name: str,
    output_filter: Sequence[str],
    *,
    timeout: float | None,
    limits: Limits,
) -> Prediction:
    """Run one signature on TensorProtos or arrays.

    Args:
        runtime: The runtime of the version.
        inputs: TensorProto or array by input name.
        signature_name: Name of the signature; empty for ``serving_default``.
        output_filter: Names of the outputs to return; empty for all.
        timeout: Time limit in seconds; None for none.
        limits: Limits on the size of the inputs; None for none.

    Raises:
        StatusError: The request does not fit the model, or the graph fails on its values.
    """
    key = signature_name or DEFAULT_SIGNATURE
    signature = runtime.signatures.get(key)
    if signature is None:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
    _check_count(signature, inputs)
    feeds, values = _inputs(signature, inputs, limits)
    aliases = _outputs(signature, output_filter)
    names = [signature.outputs[alias].name for alias in aliases]
    fetches = sorted(set(names))  # several aliases may refer to one tensor
    began = time.monotonic()
    results = dict(zip(fetches, run(runtime, feeds, values, fetches, timeout), strict=True))
    return Prediction(
        signature_name=key,
        outputs={a: results[n] for a, n in zip(aliases, names, strict=True)},
        run_seconds=time.monotonic() - began,
        rows=len(values[0]) if values and values[0].ndim else 1,
    )


def run(
    runtime: Runtime,
    feeds: Sequence[str],
    values: Sequence[np.ndarray],
    fetches: Sequence[str],
    timeout: float | None,
) -> list[np.ndarray]:
    """Call ``runtime.run``, convert its results to arrays, and its errors to StatusErrors.

    A session returns a string of shape [] as plain ``bytes``, which numpy alone would convert to a
    dtype that TensorFlow does not have.

    Args:
        runtime: The runtime of the version.
        feeds: Names of the input tensors.
        values: One array for each name in ``feeds``.
        fetches: Names of the tensors to return.
        timeout: Time limit in seconds; None for none.

    Returns:
        One array for each name in ``fetches``.

    Raises:
        StatusError: The time is over, or the graph fails.
    """
    if timeout is not None and timeout <= 0:
        raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded before the model ran.")
    try:
        results = runtime.run(feeds, values, fetches, timeout)
    except Exception as error:
        raise status.from_exception(error) from error
    return [v if isinstance(v, np.ndarray) else tensors.as_array(v) for v in results]


def _list(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _check_count(signature: Any, sent: Mapping[str, Any]) -> None:
    expected = set(signature.inputs)
    if len(sent) == len(expected) or (len(sent) < len(expected) and signature.defaults):
        return
    raise status.invalid(
        f"input size does not match signature: {len(sent)}!={len(expected)} "
        f"len({{{_list(sent)}}}) != len({{{_list(expected)}}}). "
        f"Sent extra: {{{_list(set(sent) - expected)}}}. "
        f"Missing but required: {{{_list(expected - set(sent))}}}."
    )


def _inputs(
    signature: Any, sent: Mapping[str, Any], limits: Limits
) -> tuple[list[str], list[np.ndarray]]:
    feeds: list[str] = []
    values: list[np.ndarray] = []
    used: list[str] = []
    for index, alias in enumerate(sorted(signature.inputs)):
        info = signature.inputs[alias]
        if alias in sent:
            value = sent[alias]
            used.append(alias)
        elif alias in signature.defaults:
            value = signature.defaults[alias]
        else:
            raise status.invalid(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and "
                "no default value provided. Inputs expected to be in the request "
                f"{{{_list(sent)}}}, or default input alias set: {_list(signature.defaults)}"
            )
        feeds.append(info.name)
        values.append(_checked_array(index, alias, info, value, limits))
    if sent and len(used) != len(sent):
        raise status.invalid(
            f"Inputs contains invalid name. Used request inputs: {_list(used)}, "
            f"request input: {_list(sent)}"
        )
    return feeds, values


def _checked_array(index: int, alias: str, info: Any, value: Any, limits: Limits) -> np.ndarray:
    try:
        array = value if isinstance(value, np.ndarray) else tensors.to_array(value)
        number = tensors.number_of(value)
    except tensors.TensorError as error:
        raise status.invalid(f"tensor parsing error: {alias} ({error})") from error
    # As in TensorFlow Serving, the dtype is compared and the shape is not: the operations of the
    # graph decide which shapes they accept.
    if number != info.dtype:
        raise status.invalid(
            f"Expects arg[{index}] to be {tensors.dtype_name(info.dtype)} but "
            f"{tensors.dtype_name(number)} is provided"
        )
    limits.check(alias, array)
    return array


def _outputs(signature: Any, output_filter: Sequence[str]) -> list[str]:
    for index, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise status.invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_list(signature.outputs)}}}."
            )
        if alias in output_filter[:index]:
            raise status.invalid(f"duplicate output tensor alias: {alias}")
    return list(output_filter) or sorted(signature.outputs)
