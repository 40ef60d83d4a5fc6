"""Errors of the client, one class for each gRPC status code.

Every class has the exit code of the command line: 2 for a request that cannot succeed as it is, 5
for a server that is missing or busy, 1 for a defect of the server.
"""

from __future__ import annotations

from typing import ClassVar

import grpc


class ServingError(Exception):
    """Base class of the errors; the text is the message of the server where it sent one."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "UNKNOWN"
    from_server = False
    """Whether the error was sent by a server. Otherwise the client found a bad argument, or could
    not reach the server."""

    def __init_subclass__(cls, code: str = "", exit_code: int = 0) -> None:
        super().__init_subclass__()
        cls.code, cls.exit_code = code or cls.code, exit_code or cls.exit_code


class InvalidArgument(ServingError, code="INVALID_ARGUMENT", exit_code=2):
    """The server, or the client before it, refuses the content of the request."""


class NotFound(ServingError, code="NOT_FOUND", exit_code=2):
    """The server does not know the model or the version."""


class FailedPrecondition(ServingError, code="FAILED_PRECONDITION", exit_code=2):
    """The model has no such signature, or it was loaded but cannot run."""


class Unauthenticated(ServingError, code="UNAUTHENTICATED", exit_code=2):
    """The request lacks valid credentials."""


class PermissionDenied(ServingError, code="PERMISSION_DENIED", exit_code=2):
    """The caller may not make this request."""


class Unimplemented(ServingError, code="UNIMPLEMENTED", exit_code=2):
    """The server does not implement this method."""


class Unavailable(ServingError, code="UNAVAILABLE", exit_code=5):
    """No server answers, or it is starting or stopping. The call can be retried."""


class DeadlineExceeded(ServingError, code="DEADLINE_EXCEEDED", exit_code=5):
    """The server did not answer within the timeout."""


class ResourceExhausted(ServingError, code="RESOURCE_EXHAUSTED", exit_code=5):
    """The server is overloaded, or a message exceeds its limit."""


class Cancelled(ServingError, code="CANCELLED", exit_code=5):
    """The call was cancelled by the client, or by a server that stopped."""


class InternalError(ServingError, code="INTERNAL"):
    """The server has a defect."""


_CLASSES = {kind.code: kind for kind in ServingError.__subclasses__()}

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
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}
"""The reverse of TensorFlow Serving's table of status codes, and the codes that proxies send.
TensorFlow Serving also answers 400 for FAILED_PRECONDITION and OUT_OF_RANGE; over REST these cannot
be distinguished."""


_NOT_REACHED = (
    *("failed to connect", "connections to all backends", "last error:", "address list"),
    *("errors resolving", "name resolution", "dns resolution", "handshake", "socket closed"),
    *("connection reset", "connection refused", "broken pipe", "recvmsg:", "goaway"),
)
"""Parts of the texts, in lower case, with which gRPC itself says that a connection failed. Its
errors do not tell otherwise whether a server sent them."""


def from_rpc(error: grpc.RpcError, target: str, timeout: float) -> ServingError:
    """Return the typed error of a failed call to ``target`` that had ``timeout`` seconds."""
    code, details = error.code(), error.details() or ""
    if code.name == "UNAVAILABLE" and any(text in details.lower() for text in _NOT_REACHED):
        return unreachable(details, target)
    if code.name == DeadlineExceeded.code:  # the deadline of the call, which gRPC tells the server
        return too_late(details or code.name, target, timeout)
    return _answered(_CLASSES.get(code.name, ServingError), details or code.name)


def from_http(status: int, details: str, target: str) -> ServingError:
    """Return the typed error of an HTTP answer whose status is not 2xx."""
    kind, details = _HTTP.get(status, ServingError), details or f"HTTP {status}"
    if kind is DeadlineExceeded:
        details = (
            f"{target} stopped the request after its own time limit or the gateway's ({details}). "
            "Send fewer images at once, or start the server with a larger --rest_api_timeout_in_ms."
        )
    return _answered(kind, details)


def closed(target: str) -> ServingError:
    """Return the error of a call that was made after ``close``."""
    return ServingError(f"The client of {target} is closed.")


def unreachable(reason: object, target: str) -> Unavailable:
    """Return the error of a call to ``target`` that no server answered."""
    advice = (
        "Start one with `imgpipe serve OUT`, check the address, or wait until the server has "
        "loaded its models."
    )
    if "SSL" in str(reason):
        advice = (
            "The TLS handshake failed. Name the authority of the server's certificate with --ca "
            "(`tls=Tls(ca=...)` in Python), with --certificate and --key if the server demands "
            "them, or do not use TLS if the server has none."
        )
    if "http1.x server" in str(reason):  # so says gRPC about an answer over HTTP/1
        advice = f"This is a REST port; use http://{target}."
    return Unavailable(f"No model server is available at {target} ({reason}). {advice}")


def too_late(details: str, target: str, timeout: float) -> DeadlineExceeded:
    """Return the error of a call that ``target`` did not answer in time."""
    return DeadlineExceeded(
        f"No answer from {target} within {timeout:g} s ({details}). Allow more time with "
        "`timeout`, or send fewer images at once."
    )


def _answered(kind: type[ServingError], details: str) -> ServingError:
    answered = kind(details)
    answered.from_server = True
    return answered
