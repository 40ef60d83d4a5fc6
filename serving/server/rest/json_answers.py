"""Outputs to JSON text, as TensorFlow Serving writes them.

Floats are the shortest text that reads back as the same number of their type, with ``.0`` where
they are whole; NaN and Infinity stand bare. Names that end in ``_bytes`` come as ``{"b64": …}``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from imgpipe.serving import tensors
from imgpipe.serving.server.rest.json_tensors import Form
from imgpipe.serving.server.status import invalid

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
        return f'{{"predictions": {_rows(outputs)}}}'
    whole = {name: _grouped(name, value, value.shape)[0] for name, value in outputs.items()}
    return f'{{"outputs": {_one_or_named(whole)}}}'


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
    columns = {name: _grouped(name, value, value.shape[1:]) for name, value in outputs.items()}
    if len(columns) == 1:
        (rows,) = columns.values()
    else:
        rows = [
            _one_or_named(dict(zip(columns, row, strict=True)))
            for row in zip(*columns.values(), strict=True)
        ]
    return f"[{', '.join(rows)}]"


def _one_or_named(texts: Mapping[str, str]) -> str:
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "{" + ", ".join(f"{_text(name)}: {text}" for name, text in texts.items()) + "}"


def write_classifications(result: Any) -> str:
    """``{"results": [[[label, score], …], …]}``; labels that are not UTF-8 as ``{"b64": "…"}``."""
    rows = [row.classes for row in result.classifications]
    scores = iter(_floats(np.array([one.score for row in rows for one in row], np.float32)))
    lists = (", ".join(f"[{_label(one.label)}, {next(scores)}]" for one in row) for row in rows)
    return '{"results": [' + ", ".join(f"[{text}]" for text in lists) + "]}"


def _label(label: str) -> str:
    return label if _B64_OBJECT.fullmatch(label) else _text(label)


def write_regressions(result: Any) -> str:
    """``{"results": [value, …]}``."""
    values = np.array([row.value for row in result.regressions], np.float32)
    return f'{{"results": [{", ".join(_floats(values))}]}}'


def write_error(message: str) -> str:
    """``{"error": "…"}``."""
    return f'{{"error": {_text(message)}}}'


def _grouped(name: str, array: np.ndarray, shape: tuple[int, ...]) -> list[str]:
    """Texts of the parts of ``array`` that have ``shape``, its last dimensions."""
    texts = _values(name, np.ascontiguousarray(array).reshape(-1))
    count = int(np.prod(array.shape, dtype=np.int64))
    for index in range(len(shape) - 1, -1, -1):
        size = shape[index]
        count = int(np.prod(array.shape[: array.ndim - len(shape) + index], dtype=np.int64))
        texts = [f"[{', '.join(texts[i * size : (i + 1) * size])}]" for i in range(count)]
    return texts


def _values(name: str, flat: np.ndarray) -> list[str]:
    row = tensors.dtype_of(tensors.number_of(flat))
    if row is None or row.numpy.kind == "c":
        kind = tensors.dtype_name(tensors.number_of(flat))
        raise invalid(f"Failed to write JSON value for tensor type: {kind}")
    if row.number == tensors.STRING:
        write = _b64 if name.endswith(_BYTES_SUFFIX) else _string
        return [write(item) for item in flat.tolist()]
    if row.numpy.kind == "b":
        return ["true" if item else "false" for item in flat.tolist()]
    if row.numpy.kind in "iu":
        return list(map(str, flat.tolist()))
    return _floats(flat)


def _string(item: bytes) -> str:
    try:
        return _text(item.decode())
    except UnicodeDecodeError:
        return _b64(item)  # raw bytes would not be JSON


def _b64(item: bytes) -> str:
    return f'{{"b64": "{base64.b64encode(item).decode()}"}}'


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
