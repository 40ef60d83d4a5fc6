"""The JSON of Predict, and bodies that are none.

{"signature_name": "serving_default", "instances": [ROW, …]}  ->  {"predictions": [ROW, …]}
    {"inputs": COLUMN or {NAME: COLUMN}}                          ->  {"outputs": …}

A row is the value of the only input, or an object with the value of each. Bytes are
`{"b64": TEXT}`, in answers for outputs whose names end in `_bytes` and for strings that are not
UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import shlex
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from imgpipe.serving import tensors
from imgpipe.serving.look import IS_TEXT, Look, text_of
from imgpipe.serving.server.limits import MAX_NAME_CHARACTERS
from imgpipe.serving.server.rest.requests import too_large
from imgpipe.serving.server.status import invalid, listed
from imgpipe.serving.server.storage import IMAGE_INPUT
from imgpipe.serving.tensors import DType

B64 = "b64"
B64_FORM = '{"b64": TEXT}'
B64_ADVICE = (
    f"Send the content of the file as base64, in an object with the single key {B64}: no path, no "
    "link and no data URL."
)
IMAGE_FORM = f'{{"instances": [{B64_FORM}]}}'
_COMMAND = (
    "python3 -c 'import base64, json, sys; image = base64.b64encode(sys.stdin.buffer.read()); "
    "print(json.dumps(dict(instances=[dict(b64=image.decode())])))' < photo.jpg | "
    "curl --data-binary @- "
)
"""What a person copies out of an answer, in which JSON puts a backslash before quotation marks and
backslashes. Therefore it has neither."""
_FORM = re.compile(rb"[\w.%+-]+=")
"""The beginning of a form that is not divided into parts."""
_START = 256
"""Bytes of a body that show what it is."""
MAX_VALUES = 450_000
"""Largest number of values of a request, and of its lists; an image of 384 x 384 x 3 pixels has
442,368 numbers. While they are converted, other requests wait for Python's interpreter lock; see
docs/benchmarks.md, "Constants of the code"."""
_KEY = 4
"""Values as which a key counts, because it takes longer to parse than a number."""
_ROWS, _COLUMNS = "instances", "inputs"
_BYTES_SUFFIX = "_bytes"
_ALPHABET = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = string.whitespace.encode()
_SHOWN = 40
"""Characters of a text that a message quotes."""


def _kind(data: bytes) -> str:
    if not data.strip():
        return "empty"
    start = data[:_START]
    if start.startswith(b"--") and b"content-disposition" in start.lower():
        return "a form (multipart/form-data)"
    if _FORM.match(start):
        return "a form"
    look = Look(data)
    name = look.format_in_words or look.other_format
    return f"a file of the format {name}" if name else look.described()[0]


@dataclass(frozen=True)
class PredictBody:
    """The body of a request."""

    signature_name: str
    by_row: bool
    """Whether the values come in rows, as the answer does."""
    value: Any
    """The rows or the columns."""


def parse(data: bytes, url: str) -> PredictBody:
    """Parse the body of a request, JSON in UTF-8.

    A StatusError says what is not in the format of Predict, with a command for the `url`.
    """
    data = data.removeprefix(codecs.BOM_UTF8)  # which Windows writes
    if data[:_START].lstrip()[:1] not in (b"{", b"["):
        raise invalid(
            f"The body is {_kind(data)}, and no JSON. Send the content of an image as base64, "
            f"{IMAGE_FORM}. A command that does: {_COMMAND}{shlex.quote(url)}"
        )
    # Lists without an empty one hold one number more than they have commas. Lists are counted
    # apart, so that it makes no difference how many of them hold the numbers. Commas, colons and
    # brackets inside of strings count too; there are few.
    values = data.count(b",") + data.count(b"{") + _KEY * data.count(b":")
    lists = data.count(b"[")
    if max(values, lists) > MAX_VALUES:
        raise too_large(
            f"holds more than {MAX_VALUES:,} values (numbers, strings and objects; a key counts as "
            f"{_KEY}), or as many lists. Send fewer rows at once, send images as encoded bytes, or "
            "use gRPC."
        )
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "memory" in error.msg:
            raise MemoryError(error.msg) from error
        raise invalid(f"JSON Parse error: {error}. Expected: {IMAGE_FORM}.") from error
    keys = [key for key in (_ROWS, _COLUMNS) if isinstance(document, dict) and key in document]
    if len(keys) != 1:
        raise invalid(
            f"A request is an object with either {_ROWS!r} or {_COLUMNS!r}. Received: "
            f"{' and '.join(keys) if keys else 'neither'}. For an image, send {IMAGE_FORM}."
        )
    name = document.get("signature_name", "")
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS:
        raise invalid(f"'signature_name' must be a short string. Received: {_described(name)}.")
    return PredictBody(name, keys == [_ROWS], document[keys[0]])


def read(body: PredictBody, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert the values of a request to one array for each input, of which `inputs` has the type.

    A StatusError says which values do not fit.
    """
    arrays = {}
    for name, value in _columns(body, sorted(inputs)).items():
        dtype = tensors.dtype_of(inputs[name].dtype)
        if dtype is None:
            raise invalid(f"JSON has no values for the type of {name}.")
        arrays[name] = _array(name, value, dtype)
    return arrays


def _columns(body: PredictBody, names: list[str]) -> dict[str, Any]:
    if not names and body.value != {}:
        raise invalid(f"The signature has no inputs. Expected: {_COLUMNS!r} with an empty object.")
    rows = body.value if body.by_row else [body.value]
    if not isinstance(rows, list) or not rows:
        raise invalid(
            f"{_ROWS!r} is a list with at least one row, such as [{B64_FORM}] for an image. "
            f"Received: {_described(rows)}."
        )
    is_named = isinstance(rows[0], dict) and not _is_b64(rows[0])
    received = rows[0] if is_named else names[:1]
    if set(received) != set(names):
        raise invalid(f"Expected values for {listed(names)}. Received: {listed(received)}.")
    if not is_named:
        return {names[0]: body.value}
    if not body.by_row:
        return body.value
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != rows[0].keys():
            raise invalid(f"Row {number} of {_ROWS!r} has other values than row 0.")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {B64} and isinstance(value[B64], str)


def _array(name: str, value: Any, dtype: DType) -> np.ndarray:
    # As objects first: numpy would make numbers of texts, and texts of the size of the longest.
    objects = np.array(value, dtype=object)
    if objects.ndim > tensors.MAX_RANK:
        raise invalid(
            f"{name} has {objects.ndim} dimensions; at most {tensors.MAX_RANK} are allowed."
        )
    kind = dtype.numpy.kind
    flat = objects.ravel().tolist()
    if dtype.number == tensors.STRING:
        for index, item in enumerate(flat):
            objects.flat[index] = _bytes(name, item)
        return objects
    allowed: set[type] = {bool} if kind == "b" else {int} if kind in "iu" else {int, float}
    others = sorted(received.__name__ for received in set(map(type, flat)) - allowed)
    if others:
        raise invalid(
            f"{name} is a tensor of {dtype.name}: numbers of this type, in lists of equal length "
            f"and depth. Received: {', '.join(others)}."
        )
    try:
        with np.errstate(over="ignore"):  # numbers that are too large become infinite
            array = objects.astype(dtype.numpy)
    except OverflowError:
        array = None
    if array is None or (float in allowed and not np.isfinite(array).all()):
        raise invalid(f"{name} has a number that does not fit into {dtype.name}.")
    return array


def _bytes(name: str, item: Any) -> bytes:
    if isinstance(item, str) and name == IMAGE_INPUT:
        text = text_of(item.encode())
        raise invalid(f'{IS_TEXT} It begins with "{text}". {B64_ADVICE}')
    if isinstance(item, str):
        return item.encode()
    if _is_b64(item):
        # Either alphabet, with or without padding, as TensorFlow Serving takes it.
        plain = item[B64].encode().translate(_ALPHABET, _WHITESPACE).rstrip(b"=")
        try:
            return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid(
                f"{name} has a value under the key {B64} that is not base64: "
                f"{_described(item[B64])}. {B64_ADVICE}"
            ) from error
    advice = ""
    if isinstance(item, int | float):
        advice = " If these are pixels, name the signature that takes them in 'signature_name'."
    raise invalid(
        f"{name} is made of texts, or bytes as {B64_FORM}. Received: {_described(item)}.{advice}"
    )


def _described(value: Any) -> str:
    """Return a value for a message: the beginning of a text, and the kind of what may be large."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN] + '…'!r}"
    if isinstance(value, dict):
        return f"an object with the keys {listed(value)}"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    return orjson.dumps(value).decode()


def write(outputs: Mapping[str, np.ndarray], *, by_row: bool) -> bytes:
    """Write an answer: one value for each row, or one for each output.

    NaN and infinity become `null`. A single output stands without its name. Rows need the same
    first dimension of all outputs: otherwise, this is a StatusError.
    """
    columns = {name: _plain(name, value) for name, value in outputs.items()}
    if not by_row:
        return _dumps({"outputs": next(iter(columns.values())) if len(columns) == 1 else columns})
    counts = {value.shape[:1] for value in outputs.values()}
    if len(counts) != 1 or () in counts:
        raise invalid(
            f"The outputs have different numbers of rows. Ask with {_COLUMNS!r} instead of "
            f"{_ROWS!r}."
        )
    if len(columns) == 1:
        return _dumps({"predictions": next(iter(columns.values()))})
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _dumps({"predictions": rows})


def _plain(name: str, value: np.ndarray) -> Any:
    """Return an output as orjson takes it."""
    if value.dtype.kind == "O":
        return _texts(value.tolist(), name.endswith(_BYTES_SUFFIX))
    return np.asarray(value, order="C") if value.ndim else value[()]


def _texts(value: Any, as_bytes: bool) -> Any:
    """Return strings as text, or as base64 where they are bytes."""
    if isinstance(value, list):
        return [_texts(item, as_bytes) for item in value]
    try:
        if not as_bytes:
            return value.decode()
    except UnicodeDecodeError:
        pass
    return {B64: base64.b64encode(value).decode()}


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
