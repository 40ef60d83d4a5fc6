"""Bounded JSON parser with the error messages of TensorFlow Serving.

It uses Python's parser, which accepts NaN and Infinity like rapidjson. In addition, a document is
measured before it is parsed (see ``json_bounds``), the first of several equal keys is used, and
text after the document is ignored, as in TensorFlow Serving.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from typing import Any

from imgpipe.serving.server.rest import json_bounds
from imgpipe.serving.server.rest.options import MAX_BODY_VALUES
from imgpipe.serving.server.status import StatusError, invalid

_SHOWN_BYTES = 256
"""How many bytes of a value an error message shows, as in TensorFlow Serving."""
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_LARGE = 1 << 16
"""Size in bytes from which other threads may run while a document is parsed. Parsing then takes a
third longer."""
_NEAR = 1 << 16
"""How many characters before an error are searched for the enclosing bracket."""


class Repeated(dict[str, Any]):
    """A JSON object with repeated keys. The first value of a key is used."""


class Constant(float):
    """``Infinity`` or ``NaN`` in the document, in contrast to a number too large for a double."""


# ``dict`` keeps the last of several equal keys; reversed, it keeps the first.
def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else Repeated(reversed(pairs))


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=Constant)
# With Python functions for the numbers, the parser releases the interpreter lock now and then.
_LARGE_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=Constant,
    parse_float=lambda text: float(text),
    parse_int=lambda text: int(text),
)


def read(body: bytes, max_values: int = MAX_BODY_VALUES) -> dict[str, Any]:
    """Parse the JSON object at the beginning of ``body``.

    Args:
        body: JSON text in UTF-8.
        max_values: Largest number of numbers, strings, lists and objects together.

    Raises:
        TooMany: The document has more values.
        StatusError: INVALID_ARGUMENT, the text is not a JSON object, or is nested too deeply.
    """
    if not body:
        raise _error("The document is empty")
    json_bounds.check(body, max_values)
    try:
        text = body.decode("utf-8-sig")  # a byte order mark is ignored (RFC 8259, section 8.1)
    except UnicodeDecodeError as error:
        raise _error("Invalid encoding in string.", error.start) from error
    start = _WHITESPACE.match(text).end()  # type: ignore[union-attr]
    if start == len(text):
        raise _error("The document is empty.", len(body))
    try:
        decoder = _DECODER if len(body) < _LARGE else _LARGE_DECODER
        value, _ = decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _error(_words(error), len(text[: error.pos].encode())) from error
    except RecursionError as error:
        raise json_bounds.too_deep() from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise _error("Number too big to be stored in double.") from error
    if not isinstance(value, dict):
        raise complaint(value, "Is not object")
    return value


def _error(words: str, offset: int | None = None) -> StatusError:
    where = "" if offset is None else f" at offset: {offset}"
    return invalid(f"JSON Parse error: {words}{where}")


_WORDS = (
    ("Expecting value", "Invalid value."),
    ("Expecting property name", "Missing a name for object member."),
    ("Expecting ':'", "Missing a colon after a name of object member."),
    ("Unterminated string", "Missing a closing quotation mark in string."),
    ("Invalid control character", "Invalid encoding in string."),
    ("Invalid \\u", "Incorrect hex digit after \\u escape in string."),
    ("Invalid \\", "Invalid escape character in string."),
)


def _words(error: json.JSONDecodeError) -> str:
    """Return rapidjson's message for an error of Python's parser."""
    for ours, theirs in _WORDS:
        if error.msg.startswith(ours):
            return theirs
    if error.msg.startswith("Expecting ','"):
        before = error.doc[: error.pos]
        if len(before) <= _NEAR and json_bounds.open_brackets(before.encode())[-1:] == b"{":
            return "Missing a comma or } after an object member."
        return "Missing a comma or ] after an array element."
    return f"{error.msg}."


def shown(value: Any) -> str:
    """Return the beginning of ``value`` as JSON, for a message."""
    text = ""
    with contextlib.suppress(RecursionError):  # the parts before the error are shown
        for part in _pieces(value):
            text += part
            if len(text) >= _SHOWN_BYTES:
                break
    return text.encode("utf-8", "replace")[:_SHOWN_BYTES].decode("utf-8", "ignore")


def _pieces(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return [json.dumps(value[:_SHOWN_BYTES], ensure_ascii=False)]
    return json.JSONEncoder(ensure_ascii=False).iterencode(value)


def kind(value: Any) -> str:
    """Return rapidjson's name of the type of a JSON value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    for types, name in ((str, "String"), (dict, "Object"), (list, "Array")):
        if isinstance(value, types):
            return name
    return "Number"


def complaint(value: Any, words: str) -> StatusError:
    """Return an INVALID_ARGUMENT error that shows ``value``."""
    return invalid(f"JSON Value: {shown(value)} {words}")
