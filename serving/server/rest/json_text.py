"""Bytes to JSON, within bounds, and TensorFlow Serving's words for what is wrong with them.

Python's own parser, since it takes NaN and Infinity as rapidjson does there. Around it: nesting is
counted before anything is parsed (upstream dies of a stack overflow: CVE-2025-0649), the first of
equal keys counts as upstream's lookup has it, and what follows the document is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from imgpipe.serving.server.status import StatusError, invalid

MAX_DEPTH: Final = 500
"""Levels of lists and objects; a tensor has 64 dimensions at most."""
_SHOWN_BYTES = 256
"""Of a value in a message, as upstream."""
_CHUNK = 1 << 20
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1
_NEAR = 1 << 16
"""How far the bracket around an error is looked for, characters."""


class Repeated(dict[str, Any]):
    """An object with equal keys; the first of them counts."""


class Constant(float):
    """Infinity or NaN as such, not a number too big for a double."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Repeated(reversed(pairs))


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=Constant)


def read(body: bytes) -> dict[str, Any]:
    """The object that ``body`` begins with.

    Raises:
        StatusError: INVALID_ARGUMENT, it is none, or is nested too deeply.
    """
    if not body:
        raise _error("The document is empty")
    check_depth(body)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _error("Invalid encoding in string.", error.start) from error
    start = _WHITESPACE.match(text).end()  # type: ignore[union-attr]
    if start == len(text):
        raise _error("The document is empty.", len(body))
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _error(_words(error), len(text[: error.pos].encode())) from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise _error("Number too big to be stored in double.") from error
    if not isinstance(value, dict):
        raise complaint(value, "Is not object")
    return value


def check_depth(body: bytes) -> None:
    """Refuse what is nested more than ``MAX_DEPTH`` times.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    chars = _without_escapes(body)
    depth, inside = 0, False
    for start in range(0, len(chars), _CHUNK):
        steps, inside = _steps(chars[start : start + _CHUNK], inside)
        depths = np.cumsum(steps, dtype=np.int32)
        if depth + int(depths.max()) > MAX_DEPTH:
            raise _too_deep()
        depth += int(depths[-1])


def _without_escapes(text: bytes) -> np.ndarray:
    """Characters without those quotes that end no string."""
    return np.frombuffer(text.replace(rb"\\", b"").replace(rb"\"", b""), np.uint8)


def _steps(chars: np.ndarray, inside: bool) -> tuple[np.ndarray, bool]:
    """1 for what opens a level, -1 for what closes one, and whether a string is open at the end.

    Brackets in strings are none.
    """
    quotes = np.cumsum(chars == ord('"'), dtype=np.int32) + inside
    return np.where(quotes & 1, 0, _STEPS[chars]), bool(quotes[-1] & 1)


def _too_deep() -> StatusError:
    return _error(f"Nesting too deep. Allowed are {MAX_DEPTH} levels of lists and objects.")


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
    """rapidjson's words for what Python's parser found."""
    for ours, theirs in _WORDS:
        if error.msg.startswith(ours):
            return theirs
    if error.msg.startswith("Expecting ','"):
        if _inside_object(error.doc[: error.pos]):
            return "Missing a comma or } after an object member."
        return "Missing a comma or ] after an array element."
    return f"{error.msg}."


def _inside_object(text: str) -> bool:
    if len(text) > _NEAR:
        return False
    chars = _without_escapes(text.encode("utf-8", "replace"))
    steps, _ = _steps(chars, False)
    opened: list[int] = []
    for place in np.flatnonzero(steps):
        if steps[place] > 0:
            opened.append(int(chars[place]))
        elif opened:
            opened.pop()
    return opened[-1:] == [ord("{")]


def shown(value: Any) -> str:
    """The beginning of ``value`` as JSON, for a message."""
    parts: list[str] = []
    size = 0
    try:
        for part in _pieces(value):
            parts.append(part)
            size += len(part)
            if size >= _SHOWN_BYTES:
                break
    except RecursionError:
        pass  # what is there is enough
    return "".join(parts).encode("utf-8", "replace")[:_SHOWN_BYTES].decode("utf-8", "ignore")


def _pieces(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return [json.dumps(value[:_SHOWN_BYTES], ensure_ascii=False)]
    return json.JSONEncoder(ensure_ascii=False).iterencode(value)


def kind(value: Any) -> str:
    """rapidjson's name of a value's type."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    for types, name in ((str, "String"), (dict, "Object"), (list, "Array")):
        if isinstance(value, types):
            return name
    return "Number"


def complaint(value: Any, words: str) -> StatusError:
    """INVALID_ARGUMENT about a value."""
    return invalid(f"JSON Value: {shown(value)} {words}")
