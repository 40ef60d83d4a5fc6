"""Errors of requests and loads: a canonical status code and a message of one line."""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Iterable

MAX_MESSAGE_BYTES = 1024
"""TensorFlow Serving truncates messages here (model_servers/grpc_status_util.cc)."""
_MOST_NAMES = 100
_TRUNCATED = "...TRUNCATED"
# What the executor of a graph adds to the message of an operation:
# "2 root error(s) found.\n  (0) INVALID_ARGUMENT: …",
_ROOT_ERROR = re.compile(r"^\d+ root error\(s\) found\.\s*\(0\)\s*(?:[A-Z_]+: )?", re.S)
# "{{function_node __inference_serve_12}} {{node decode/DecodeImage}} …",
_NODE_PREFIX = re.compile(r"^(?:\{\{(?:function_)?node [^}]*\}\}\s*)+")
# and "… [[{{node decode/DecodeImage}}]]" or "… [Op:DecodeImage]".
_NODE_SUFFIX = re.compile(r"\s*(?:\[\[\{\{|\[Op:|\[\[\{?node).*$", re.S)
# What follows is the value, which may be an image of megabytes.
_NO_EXAMPLE = re.compile("Could not parse example input, value: .*", re.DOTALL)
EXPECTED_EXAMPLES = (
    "expected serialized tf.Examples. Received: other bytes. Send image files to the signature "
    "serving_default."
)
# "assertion failed: [MESSAGE]", in which the op Assert has escaped the quotation marks.
_ASSERTION = re.compile(r"assertion failed: \[(.*)\]")
_QUOTATION_MARK = re.compile(r"\\([\"'])")


class Code(enum.IntEnum):
    """Canonical status codes, shared by gRPC, TensorFlow and StatusProto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def _missing_(cls, value: object) -> Code:
        return cls.UNKNOWN


class StatusError(Exception):
    """A request or a load failed with `code`; the client receives the message.

    It is cut at `MAX_MESSAGE_BYTES`, because it may quote what a client has sent.
    """

    def __init__(self, code: int, message: str) -> None:
        self.code = Code(code)
        self.message = _truncated(message)
        super().__init__(self.message)


def invalid(message: str) -> StatusError:
    """Return an INVALID_ARGUMENT error."""
    return StatusError(Code.INVALID_ARGUMENT, message)


def listed(names: Iterable[str]) -> str:
    """Return names for a message, such as `a, b`; of very many, the first ones."""
    shown = sorted(itertools.islice(names, _MOST_NAMES + 1))
    return ", ".join(shown[:_MOST_NAMES] + ["…"] * (len(shown) > _MOST_NAMES)) or "none"


def _truncated(message: str) -> str:
    """Truncate `message` to 1024 bytes without dividing a character.

    Halves of surrogate pairs, which JSON and names of files may hold, become question marks.
    """
    data = message.encode("utf-8", "replace")
    text = data[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore")
    return text if len(data) <= MAX_MESSAGE_BYTES else text + _TRUNCATED


def tidy(message: str) -> str:
    """Return the first line of a TensorFlow error without the trace of graph nodes.

    The trace describes the inside of the model and does not help the sender of a broken image. Of
    an assertion with one value, this is its message.
    """
    text = _ROOT_ERROR.sub("", message.strip())
    text = _NODE_PREFIX.sub("", text)
    text = _NO_EXAMPLE.sub(EXPECTED_EXAMPLES, text)
    text = _NODE_SUFFIX.sub("", text)
    line = text.strip().split("\n", 1)[0].strip() or message.strip().split("\n", 1)[0]
    assertion = _ASSERTION.fullmatch(line)
    return _QUOTATION_MARK.sub(r"\1", assertion[1]) if assertion else line


def from_exception(error: BaseException) -> StatusError:
    """Convert an exception; errors of TensorFlow keep their code, others become INTERNAL."""
    if isinstance(error, StatusError):
        return error
    code = getattr(error, "error_code", None)
    message = getattr(error, "message", None)
    if isinstance(code, int) and isinstance(message, str):  # tf.errors.OpError
        return StatusError(code, tidy(message))
    return StatusError(Code.INTERNAL, tidy(f"{type(error).__name__}: {error}"))
