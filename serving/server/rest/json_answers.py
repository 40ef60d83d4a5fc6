"""Conversion of outputs to JSON text in the format of TensorFlow Serving.

The layout is that of rapidjson's PrettyWriter with TensorFlow Serving's options
(util/json_tensor.cc): the row format has one line for all rows, the column format one line for each
value. A float is written as the shortest text that reads back as the same number of its type, with
``.0`` if it is whole. NaN and Infinity are written without quotes. Strings of outputs whose names
end in ``_bytes`` are written as ``{"b64": …}``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from imgpipe.serving import tensors
from imgpipe.serving.server.rest.json_tensors import Form
from imgpipe.serving.server.status import invalid

_INDENT = "    "
_BYTES_SUFFIX = "_bytes"
_B64_OBJECT = re.compile(r'\{"b64": "[A-Za-z0-9+/]*=*"\}')
_FLOAT_TEXT = "U32"
"""The dtype of numpy's text of a float. It has the fewest digits that read back as the same number,
fits into 32 characters, and always has a point or an exponent."""
_FLOATS_AT_ONCE = 8192
"""Number of floats that are written without a pause for other threads."""
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_quoted = json.JSONEncoder(ensure_ascii=False).encode


def write_predict(outputs: Mapping[str, np.ndarray], form: Form) -> str:
    """Write ``{"predictions": […]}`` in row format or ``{"outputs": …}`` in column format.

    Args:
        outputs: Output arrays by name. In row format, all have the same first dimension.
        form: The format of the request.

    Raises:
        StatusError: INVALID_ARGUMENT, the outputs differ in their number of rows, or a type does
            not exist in JSON.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if form == "row":
        return _document("predictions", _rows(outputs))
    level = 1 if len(outputs) == 1 else 2
    texts = {
        name: _grouped(name, value, value.shape, level, one_line=False)[0]
        for name, value in outputs.items()
    }
    return _document("outputs", texts.popitem()[1] if level == 1 else _object(texts, 1))


def _document(key: str, text: str) -> str:
    return _object({key: text}, 0)


def _object(texts: Mapping[str, str], level: int) -> str:
    """Return a JSON object within ``level`` objects and lists, with one line for each member."""
    members = [f"{_quoted(name)}: {text}" for name, text in texts.items()]
    return f"{{{_lines(members, level)}}}"


def _lines(texts: Iterable[str], level: int) -> str:
    inner, outer = _INDENT * (level + 1), _INDENT * level
    return "".join(["\n", inner, f",\n{inner}".join(texts), "\n", outer])


def _rows(outputs: Mapping[str, np.ndarray]) -> str:
    count = None
    for name, value in outputs.items():
        if not value.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if count is not None and count != len(value):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(value)} expecting: {count}"
            )
        count = len(value)
    level = 2 if len(outputs) == 1 else 3
    columns = {
        name: _grouped(name, value, value.shape[1:], level, one_line=True)
        for name, value in outputs.items()
    }
    if not count:
        return "[]"
    if len(columns) == 1:
        (rows,) = columns.values()
        return _rows_on_one_line(rows)
    objects = [
        _object(dict(zip(columns, row, strict=True)), 2)
        for row in zip(*columns.values(), strict=True)
    ]
    return f"[{_lines(objects, 1)}]"


def _rows_on_one_line(rows: Iterable[str]) -> str:
    """Return a list at level 1, where only the closing bracket is on a line of its own."""
    return f"[{', '.join(rows)}\n{_INDENT}]"


def write_classifications(result: Any) -> str:
    """Write ``{"results": [[[label, score], …], …]}``.

    Labels that are not valid UTF-8 are written as ``{"b64": "…"}``.
    """
    rows = [row.classes for row in result.classifications]
    scores = iter(_floats(np.array([entry.score for row in rows for entry in row], np.float32)))
    lists = (", ".join(f"[{_label(entry.label)}, {next(scores)}]" for entry in row) for row in rows)
    return _document("results", _rows_on_one_line(f"[{text}]" for text in lists))


def _label(label: str) -> str:
    return label if _B64_OBJECT.fullmatch(label) else _quoted(label)


def write_regressions(result: Any) -> str:
    """Write ``{"results": [value, …]}``."""
    values = np.array([row.value for row in result.regressions], np.float32)
    return _document("results", f"[{', '.join(_floats(values))}]")


def write_error(message: str) -> str:
    """Write ``{"error": "…"}``."""
    return _document("error", _quoted(message))


def _grouped(
    name: str, array: np.ndarray, shape: tuple[int, ...], level: int, *, one_line: bool
) -> list[str]:
    """Return the JSON text of each part of ``array``.

    Args:
        name: Name of the output.
        array: Values of the output.
        shape: Shape of one part, which is the last dimensions of ``array``.
        level: Number of objects and lists that enclose a part.
        one_line: Whether to write the values without line breaks between them.
    """
    texts = _values(name, np.ascontiguousarray(array).reshape(-1), level + len(shape))
    # From the innermost dimension outwards, each pass joins the texts of one dimension to lists.
    for index in range(len(shape) - 1, -1, -1):
        size = shape[index]
        count = int(np.prod(array.shape[: array.ndim - len(shape) + index], dtype=np.int64))
        parts = [texts[i * size : (i + 1) * size] for i in range(count)]
        if one_line or not size:
            texts = [f"[{', '.join(part)}]" for part in parts]
        else:
            texts = [f"[{_lines(part, level + index)}]" for part in parts]
    return texts


def _values(name: str, flat: np.ndarray, level: int) -> list[str]:
    dtype = tensors.dtype_of(tensors.number_of(flat))
    if dtype is None or dtype.numpy.kind == "c":
        kind = tensors.dtype_name(tensors.number_of(flat))
        raise invalid(f"Failed to write JSON value for tensor type: {kind}")
    if dtype.number == tensors.STRING:
        write = _b64 if name.endswith(_BYTES_SUFFIX) else _string
        return [write(item, level) for item in flat.tolist()]
    if dtype.numpy.kind == "b":
        return ["true" if item else "false" for item in flat.tolist()]
    if dtype.numpy.kind in "iu":
        return list(map(str, flat.tolist()))
    return _floats(flat)


def _string(item: bytes, level: int) -> str:
    try:
        return _quoted(item.decode())
    except UnicodeDecodeError:
        return _b64(item, level)  # raw bytes would not be JSON


def _b64(item: bytes, level: int) -> str:
    return _object({"b64": f'"{base64.b64encode(item).decode()}"'}, level)


def _floats(flat: np.ndarray) -> list[str]:
    if flat.dtype.name == "bfloat16":  # numpy cannot convert its arrays to text
        texts = [repr(float(str(item))) for item in flat]
    else:
        # The array is written in parts because numpy holds the interpreter lock meanwhile, for
        # about 1 µs for each number.
        texts = []
        for start in range(0, len(flat), _FLOATS_AT_ONCE):
            texts += flat[start : start + _FLOATS_AT_ONCE].astype(_FLOAT_TEXT).tolist()
    with np.errstate(invalid="ignore"):  # NaN is a valid output
        finite = bool(np.isfinite(flat.astype(np.float64)).all())
    return texts if finite else [_NOT_FINITE.get(text, text) for text in texts]
