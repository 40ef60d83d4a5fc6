"""What can go wrong between client and server, one class for each gRPC status.

Every class carries the exit code of the command line: 2 for a request that cannot succeed as it
is, 5 for a server that is not there or busy, 1 for a defect on the other side.
"""

from __future__ import annotations

from typing import ClassVar

import grpc


class ServingError(Exception):
    """Base of the client's errors; the text is the server's own message where there is one."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "UNKNOWN"
    from_server = False
    """Whether a server answered this. The client's own errors concern an argument or the way."""


class InvalidArgument(ServingError):
    """The server understood the request and refuses its content (or the client did so first)."""

    exit_code = 2
    code = "INVALID_ARGUMENT"


class NotFound(ServingError):
    """No such model or version."""

    exit_code = 2
    code = "NOT_FOUND"


class FailedPrecondition(ServingError):
    """No such signature, or a model that loads and cannot run."""

    exit_code = 2
    code = "FAILED_PRECONDITION"


class Unauthenticated(ServingError):
    """The server wants to know who asks."""

    exit_code = 2
    code = "UNAUTHENTICATED"


class PermissionDenied(ServingError):
    """The server does not allow this."""

    exit_code = 2
    code = "PERMISSION_DENIED"


class Unimplemented(ServingError):
    """The server does not offer this."""

    exit_code = 2
    code = "UNIMPLEMENTED"


class Unavailable(ServingError):
    """Nobody answers, or the server is starting or stopping. Worth another try."""

    exit_code = 5
    code = "UNAVAILABLE"


class DeadlineExceeded(ServingError):
    """No answer within the timeout."""

    exit_code = 5
    code = "DEADLINE_EXCEEDED"


class ResourceExhausted(ServingError):
    """The server has too much to do, or a message is beyond its limit."""

    exit_code = 5
    code = "RESOURCE_EXHAUSTED"


class Cancelled(ServingError):
    """The call was cancelled, by this side or by a server that stopped."""

    exit_code = 5
    code = "CANCELLED"


class InternalError(ServingError):
    """A defect on the server's side."""

    code = "INTERNAL"


_CLASSES: dict[str, type[ServingError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        FailedPrecondition,
        Unauthenticated,
        PermissionDenied,
        Unimplemented,
        Unavailable,
        DeadlineExceeded,
        ResourceExhausted,
        Cancelled,
        InternalError,
    )
}


_HTTP: dict[int, type[ServingError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: InvalidArgument,
    408: DeadlineExceeded,
    413: ResourceExhausted,
    429: ResourceExhausted,
    499: Cancelled,
    500: InternalError,
    501: Unimplemented,
    503: Unavailable,
    504: DeadlineExceeded,
}
"""TensorFlow Serving's own table, read backwards, and what a proxy in between may say. Its 400 is
also FAILED_PRECONDITION and OUT_OF_RANGE: over REST they cannot be told apart."""


def from_rpc(error: grpc.RpcError, target: str, timeout: float) -> ServingError:
    """The typed error of a failed call to ``target`` that had ``timeout`` seconds."""
    code, details = error.code(), error.details() or ""
    return _explained(_CLASSES.get(code.name, ServingError), details or code.name, target, timeout)


def from_http(status: int, details: str, target: str, timeout: float) -> ServingError:
    """The typed error of an HTTP answer that is none of 2xx."""
    kind = _HTTP.get(status, ServingError)
    return _explained(kind, details or f"HTTP {status}", target, timeout)


def closed(target: str) -> ServingError:
    """A call was made after ``close``."""
    return ServingError(f"The client of {target} is closed.")


def unreachable(reason: object, target: str) -> Unavailable:
    """Nobody answers at ``target``."""
    return Unavailable(
        f"No model server is available at {target} ({reason}). Start one with "
        "`imgpipe serve MODEL_DIR`, or check the address."
    )


def too_late(details: str, target: str, timeout: float) -> DeadlineExceeded:
    """No answer from ``target`` in time."""
    return DeadlineExceeded(
        f"No answer from {target} within {timeout:g} s ({details}). Allow more time with "
        "`timeout`, or send fewer images at once."
    )


def _explained(kind: type[ServingError], details: str, target: str, timeout: float) -> ServingError:
    if kind is Unavailable:
        return unreachable(details, target)
    if kind is DeadlineExceeded:
        return too_late(details, target, timeout)
    answered = kind(details)
    answered.from_server = True
    return answered
