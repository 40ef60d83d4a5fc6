"""Conversion of JSON to the tf.Examples of Classify and Regress.

As in TensorFlow Serving, the first value of a feature sets its type: int64 for whole numbers and
booleans, float for other numbers, bytes for strings and ``{"b64": …}`` (util/json_tensor.cc).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from imgpipe.serving.server.rest.json_tensors import check_number, decode_b64, encoded_text, lossy
from imgpipe.serving.server.rest.json_text import complaint, kind
from imgpipe.serving.server.status import StatusError, invalid

_INT64, _UINT64 = (-(1 << 63), (1 << 63) - 1), (1 << 64) - 1
_MAX_FLOAT = float(np.finfo(np.float32).max)


def read_signature(document: dict[str, Any]) -> str:
    """Return the ``signature_name`` of a request; empty if the request has none.

    Raises:
        StatusError: INVALID_ARGUMENT, the name is not a string, or not valid Unicode.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise complaint(
            document, "not formatted correctly. 'signature_name' key must be a string value."
        )
    encoded_text(name)
    return name


def fill_examples(document: dict[str, Any], into: Any) -> None:
    """Write the ``examples`` and the ``context`` of a request into a message.

    Args:
        document: The parsed body of a Classify or Regress request.
        into: An empty ``tensorflow.serving.Input``.

    Raises:
        StatusError: INVALID_ARGUMENT, the examples are missing or malformed.
    """
    target = into.example_list
    if "context" in document:
        target = into.example_list_with_context
        _fill(document["context"], target.context)
    if "examples" not in document:
        raise complaint(
            document, "When method is classify, key 'examples' is expected and was not found"
        )
    listed = document["examples"]
    if not isinstance(listed, list):
        raise complaint(document, "Expecting 'examples' value to be an list/array")
    if not listed:
        raise complaint(document, "'examples' value is an empty array")
    for item in listed:
        _fill(item, target.examples.add())


def _fill(item: Any, example: Any) -> None:
    if not isinstance(item, dict):
        raise invalid(f"Example must be JSON object but got JSON {kind(item)}")
    example.features.SetInParent()
    for name, content in item.items():
        encoded_text(name)
        feature = example.features.feature[name]
        for value in content if isinstance(content, list) else [content]:
            _add(value, name, feature)


def _add(value: Any, name: str, feature: Any) -> None:
    if isinstance(value, str):
        _list(feature, "bytes_list", name).append(encoded_text(value))
    elif isinstance(value, dict):
        try:
            decoded = decode_b64(value)
        except StatusError as error:
            # Damaged base64 is reported as such, and any other object as a wrong type.
            if error.message.startswith("Unable"):
                raise
            raise _unexpected(name, value) from error
        _list(feature, "bytes_list", name).append(decoded)
    elif value is None or isinstance(value, list):
        raise _unexpected(name, value)
    elif isinstance(value, float) or not _INT64[0] <= value <= _UINT64:
        target = _list(feature, "float_list", name)
        check_number(value)
        # NaN and Infinity exist as float32 too.
        if np.isfinite(value) and abs(value) > _MAX_FLOAT:
            raise lossy(value, "float")
        target.append(value)
    else:
        target = _list(feature, "int64_list", name)
        if value > _INT64[1]:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        target.append(int(value))


def _unexpected(name: str, value: Any) -> StatusError:
    return invalid(f"Feature: {name} has element with unexpected JSON type: {kind(value)}")


def _list(feature: Any, wanted: str, name: str) -> Any:
    present = feature.WhichOneof("kind")
    if present not in (None, wanted):
        expected = present.removesuffix("_list")
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
    return getattr(feature, wanted).value
