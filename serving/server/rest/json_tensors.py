"""Conversion of JSON to the arrays of a Predict request, in row or column format.

Valid lists are flattened level by level and converted to an array at once, which is fast. Invalid
lists are examined again value by value, to report the error in the order and with the messages of
TensorFlow Serving (util/json_tensor.cc).
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from itertools import chain
from typing import Any, Literal, NoReturn

import ml_dtypes
import numpy as np

from imgpipe.serving import tensors
from imgpipe.serving.server.rest.json_text import Constant, Repeated, complaint, kind, shown
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.tensors import DType

Form = Literal["row", "columnar"]
_B64 = "b64"
_LARGEST = {
    "bfloat16": float(ml_dtypes.finfo(ml_dtypes.bfloat16).max),
    "half": float(np.finfo(np.float16).max),
    "float": float(np.finfo(np.float32).max),
    "double": float(np.finfo(np.float64).max),
}
"""Numbers are rounded to the nearest value of these types without an error, as in TensorFlow
Serving (api_rest.md, "Floating Point Precision"). Numbers beyond these are refused."""


def read_predict(
    document: dict[str, Any], infos: Mapping[str, Any], signature_name: str
) -> tuple[Form, dict[str, np.ndarray]]:
    """Convert the inputs of a Predict request.

    Args:
        document: The parsed body of the request.
        infos: TensorInfo of each input of the signature by name.
        signature_name: The name in the request, for messages.

    Returns:
        The format of the request, which is also that of its answer, and the inputs by name.

    Raises:
        StatusError: INVALID_ARGUMENT, the inputs do not fit the signature; UNIMPLEMENTED, the type
            of an input does not exist in JSON. The messages are TensorFlow Serving's.
    """
    if not infos:
        raise invalid(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
    dtypes = {name: _dtype_of(info) for name, info in infos.items()}
    if "instances" in document:
        if "inputs" in document:
            raise complaint(
                document,
                "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to "
                "exist ",
            )
        return "row", _instances(document, dtypes)
    if "inputs" in document:
        return "columnar", _inputs(document["inputs"], dtypes)
    raise invalid("Missing 'inputs' or 'instances' key")


def _dtype_of(info: Any) -> DType:
    dtype = tensors.dtype_of(info.dtype)
    if dtype is None or dtype.numpy.kind == "c":
        raise StatusError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value to type: {tensors.dtype_name(info.dtype)}",
        )
    return dtype


# --- rows ----------------------------------------------------------------------------------------
def _instances(document: dict[str, Any], dtypes: Mapping[str, DType]) -> dict[str, np.ndarray]:
    listed = document["instances"]
    if not isinstance(listed, list):
        raise complaint(document, "Excepting 'instances' to be an list/array")
    if not listed:
        raise complaint(document, "No values in 'instances' array")
    if not isinstance(listed[0], dict) and len(dtypes) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    if not _is_named(listed[0]):
        name = min(dtypes)
        array = _dense(listed, dtypes[name])
        arrays = {} if array is None else {name: array}
    else:
        arrays = _named(listed, dtypes)
    if not arrays:
        _complain_of_rows(listed, dtypes)
    return arrays


def _named(listed: list[Any], dtypes: Mapping[str, DType]) -> dict[str, np.ndarray]:
    # Exact types, so that a Repeated (an object with equal keys) is reported as an error.
    if set(map(type, listed)) != {dict} or any(item.keys() != dtypes.keys() for item in listed):
        return {}
    found = {}
    for name, dtype in dtypes.items():
        array = _dense([item[name] for item in listed], dtype)
        if array is None:
            return {}
        found[name] = array
    return found


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and not _is_b64(item)


def _is_b64(item: Any) -> bool:
    return isinstance(item, dict) and len(item) == 1 and isinstance(item.get(_B64), str)


def _complain_of_rows(listed: list[Any], dtypes: Mapping[str, DType]) -> NoReturn:
    named = _is_named(listed[0])
    seen: dict[str, tuple[int, list[int]]] = {}
    for number, item in enumerate(listed):
        if _is_named(item) != named:
            words = "object but got list" if named else "value/list but got object"
            raise invalid(f"Expecting {words} at item {number} of input list")
        values = item if named else {min(dtypes): item}
        for name, value in values.items():
            try:
                _check_item(name, value, dtypes, seen)
            except StatusError as error:
                key = f" key: {name}" if named else ""
                raise invalid(
                    f"Failed to process element: {number}{key} of 'instances' list. Error: "
                    f"INVALID_ARGUMENT: {error.message}"
                ) from error
        if values.keys() != dtypes.keys() or isinstance(item, Repeated):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{shown(item)} keys must be equal to: {','.join(sorted(dtypes))}"
            )
    raise invalid("The values in 'instances' do not fit the inputs of the signature.")


def _check_item(
    name: str, value: Any, dtypes: Mapping[str, DType], seen: dict[str, tuple[int, list[int]]]
) -> None:
    if name not in dtypes:
        raise invalid(f"JSON object: does not have named input: {name}")
    shape = _shape(value)
    size = _count(value, 0, shape, dtypes[name])
    first_size, first = seen.setdefault(name, (size, shape))
    if size != first_size:
        raise invalid(f"Expecting tensor size: {first_size} but got: {size}")
    if shape != first:
        raise invalid(f"Expecting shape {_list(first)} but got: {_list(shape)}")


def _list(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


# --- columns -------------------------------------------------------------------------------------
def _inputs(value: Any, dtypes: Mapping[str, DType]) -> dict[str, np.ndarray]:
    if not _is_named(value):
        if len(dtypes) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        (name,) = dtypes
        return {name: _tensor(value, dtypes[name])}
    found = {}
    for name, dtype in dtypes.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        found[name] = _tensor(value[name], dtype)
    return found


def _tensor(value: Any, dtype: DType) -> np.ndarray:
    array = _dense(value, dtype)
    if array is None:
        _count(value, 0, _shape(value), dtype)
        raise complaint(value, f"does not fit a tensor of {dtype.name}")
    return array


# --- values --------------------------------------------------------------------------------------
def _shape(value: Any) -> list[int]:
    """Return the shape along the first elements, as TensorFlow Serving determines it."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > tensors.MAX_RANK:
            raise invalid(f"Tensors have at most {tensors.MAX_RANK} dimensions. Received more.")
        if not value:
            break
        value = value[0]
    return shape


def _dense(value: Any, dtype: DType) -> np.ndarray | None:
    """Convert nested lists to an array; return None where something does not fit."""
    shape = _shape(value)
    flat = [value]
    for size in shape:
        if set(map(type, flat)) != {list} or set(map(len, flat)) != {size}:
            return None
        flat = list(chain.from_iterable(flat))
    array = _leaves(flat, set(map(type, flat)), dtype)
    return None if array is None else array.reshape(shape)


def _leaves(flat: list[Any], kinds: set[type], dtype: DType) -> np.ndarray | None:
    if dtype.number == tensors.STRING:
        return _strings(flat, kinds)
    if dtype.name in _LARGEST:
        return _floats(flat, kinds, dtype)
    # A bool is also an int in Python, but not in TensorFlow.
    if not kinds <= ({bool} if dtype.numpy.kind == "b" else {int}):
        return None
    try:
        return np.array(flat, dtype.numpy)
    except OverflowError:
        return None


def _floats(flat: list[Any], kinds: set[type], dtype: DType) -> np.ndarray | None:
    if not kinds <= {int, float, Constant}:
        return None
    try:
        wide = np.array(flat, np.float64)
    except OverflowError:
        return None
    sizes = np.abs(wide)
    # A number such as 1e999 also becomes infinite, and is refused unlike a literal Infinity.
    infinite = np.isinf(sizes)
    if infinite.any() and any(type(flat[i]) is not Constant for i in np.flatnonzero(infinite)):
        return None
    if np.any(sizes[~infinite] > _LARGEST[dtype.name]):
        return None
    return wide.astype(dtype.numpy)


def _strings(flat: list[Any], kinds: set[type]) -> np.ndarray | None:
    if not kinds <= {str, dict}:
        return None
    found = np.empty(len(flat), dtype=object)
    try:
        for index, item in enumerate(flat):
            if type(item) is str:
                found[index] = item.encode()
            elif _is_b64(item):
                found[index] = _decoded(item[_B64])
            else:
                return None
    except (binascii.Error, ValueError):  # UnicodeEncodeError is a ValueError
        return None
    return found


def _decoded(text: str) -> bytes:
    """Decode base64 in either alphabet, with or without padding, as TensorFlow Serving does."""
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def decode_b64(item: Any) -> bytes:
    """Return the bytes of a ``{"b64": …}`` object.

    Raises:
        StatusError: INVALID_ARGUMENT, ``item`` is not such an object, or not valid base64.
    """
    if not _is_b64(item):
        raise complaint(item, "not formatted correctly for base64 data")
    try:
        return _decoded(item[_B64])
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def encoded_text(text: str) -> bytes:
    """Encode a JSON string as UTF-8.

    Raises:
        StatusError: INVALID_ARGUMENT, the string contains half of a surrogate pair.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from error


# --- errors --------------------------------------------------------------------------------------
def _count(value: Any, level: int, shape: list[int], dtype: DType) -> int:
    """Return the number of values in nested lists.

    Raises:
        StatusError: INVALID_ARGUMENT, a value does not fit ``shape`` or the type.
    """
    if not isinstance(value, list):
        if level != len(shape):
            raise complaint(
                value,
                f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                f"{len(shape)}",
            )
        _check_leaf(value, dtype)
        return 1
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    return sum(_count(item, level + 1, shape, dtype) for item in value)


def _check_leaf(value: Any, dtype: DType) -> None:
    is_string = dtype.number == tensors.STRING
    if is_string and isinstance(value, dict):
        decode_b64(value)
    elif is_string and isinstance(value, str):
        encoded_text(value)
    elif dtype.name in _LARGEST and isinstance(value, int | float) and not isinstance(value, bool):
        check_number(value)
        if math.isfinite(value) and abs(value) > _LARGEST[dtype.name]:
            raise lossy(value, dtype.name)
    elif not _fits_exactly(value, dtype):
        raise complaint(value, f"Type: {kind(value)} is not of expected type: {dtype.name}")


def _fits_exactly(value: Any, dtype: DType) -> bool:
    """Return whether ``value`` is one of the values of a type of integers or booleans."""
    if dtype.numpy.kind == "b":
        return isinstance(value, bool)
    if dtype.numpy.kind not in "iu" or type(value) is not int:
        return False
    bounds = np.iinfo(dtype.numpy)
    return bool(bounds.min <= value <= bounds.max)


def check_number(value: float) -> None:
    """Check that a number fits a double.

    Raises:
        StatusError: INVALID_ARGUMENT, the number is too large.
    """
    try:
        fits = isinstance(value, Constant) or math.isfinite(float(value))
    except OverflowError:
        fits = False
    if not fits:
        raise invalid("JSON Parse error: Number too big to be stored in double.")


def lossy(value: float, target: str) -> StatusError:
    """Return the INVALID_ARGUMENT error for a number that is too large for its type."""
    return invalid(
        f"Cannot convert JSON value: {shown(value)} to {target} without loss of precision."
    )
