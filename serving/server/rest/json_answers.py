"""Conversion of outputs to JSON text in the format of TensorFlow Serving.

The layout is that of rapidjson's PrettyWriter as upstream sets it (util/json_tensor.cc): rows on
one line, columns with one value a line. Floats are the shortest text that reads back as the same
number of their type, with ``.0`` where they are whole; NaN and Infinity stand bare. Names that end
in ``_bytes`` come as ``{"b64": …}``.
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
"""numpy's own text of a float: the fewest digits that read back the same, never longer than
this, and told from a whole number by a point or an exponent."""
_AT_ONCE = 8192
"""Floats written in one go."""
_BARE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_text = json.JSONEncoder(ensure_ascii=False).encode


def write_predict(outputs: Mapping[str, np.ndarray], form: Form) -> str:
    """``{"predictions": […]}`` or ``{"outputs": …}``.

    Raises:
        StatusError: INVALID_ARGUMENT, an output has no row for each row, or no JSON.
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
    """A JSON object that is itself within ``level`` objects and lists, one member a line."""
    members = [f"{_text(name)}: {text}" for name, text in texts.items()]
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
    """A list at level 1 as upstream writes it: only its end is on a line of its own."""
    return f"[{', '.join(rows)}\n{_INDENT}]"


def write_classifications(result: Any) -> str:
    """``{"results": [[[label, score], …], …]}``; labels that are not UTF-8 as ``{"b64": "…"}``."""
    rows = [row.classes for row in result.classifications]
    scores = iter(_floats(np.array([one.score for row in rows for one in row], np.float32)))
    lists = (", ".join(f"[{_label(one.label)}, {next(scores)}]" for one in row) for row in rows)
    return _document("results", _rows_on_one_line(f"[{text}]" for text in lists))


def _label(label: str) -> str:
    return label if _B64_OBJECT.fullmatch(label) else _text(label)


def write_regressions(result: Any) -> str:
    """``{"results": [value, …]}``."""
    values = np.array([row.value for row in result.regressions], np.float32)
    return _document("results", f"[{', '.join(_floats(values))}]")


def write_error(message: str) -> str:
    """``{"error": "…"}``."""
    return _document("error", _text(message))


def _grouped(
    name: str, array: np.ndarray, shape: tuple[int, ...], level: int, *, one_line: bool
) -> list[str]:
    """Texts of the parts of ``array`` that have ``shape``, its last dimensions.

    Args:
        name: of the output.
        array: its values.
        shape: of one part.
        level: objects and lists that a part is within.
        one_line: without a line break between values.
    """
    texts = _values(name, np.ascontiguousarray(array).reshape(-1), level + len(shape))
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
    row = tensors.dtype_of(tensors.number_of(flat))
    if row is None or row.numpy.kind == "c":
        kind = tensors.dtype_name(tensors.number_of(flat))
        raise invalid(f"Failed to write JSON value for tensor type: {kind}")
    if row.number == tensors.STRING:
        write = _b64 if name.endswith(_BYTES_SUFFIX) else _string
        return [write(item, level) for item in flat.tolist()]
    if row.numpy.kind == "b":
        return ["true" if item else "false" for item in flat.tolist()]
    if row.numpy.kind in "iu":
        return list(map(str, flat.tolist()))
    return _floats(flat)


def _string(item: bytes, level: int) -> str:
    try:
        return _text(item.decode())
    except UnicodeDecodeError:
        return _b64(item, level)  # raw bytes would not be JSON


def _b64(item: bytes, level: int) -> str:
    return _object({"b64": f'"{base64.b64encode(item).decode()}"'}, level)


def _floats(flat: np.ndarray) -> list[str]:
    if flat.dtype.name == "bfloat16":  # numpy writes none of its arrays
        texts = [repr(float(str(item))) for item in flat]
    else:
        # In parts: numpy keeps the interpreter lock while it writes, for 1 µs a number.
        parts = range(0, len(flat), _AT_ONCE)
        texts = [
            text for i in parts for text in flat[i : i + _AT_ONCE].astype(_FLOAT_TEXT).tolist()
        ]
    with np.errstate(invalid="ignore"):  # NaN is meant
        finite = bool(np.isfinite(flat.astype(np.float64)).all())
    return texts if finite else [_BARE.get(text, text) for text in texts]
