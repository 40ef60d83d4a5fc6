"""Errors of the client, with classes for the gRPC status codes that programs tell apart.

Every error has the exit code of the command line: 2 for a request that cannot succeed as it is, 5
for a server that is missing or busy, 1 for a defect of the server.
"""

from __future__ import annotations

import grpc

_ADVICE = (
    "Start one with `imgpipe serve OUT`, or wait until it has loaded its model. Otherwise check "
    "the address, whose port is that of gRPC, 8500 by default, and not that of REST. If the server "
    "has TLS, name the authority of its certificate with `tls=Tls(ca=...)`, and a certificate and "
    "its key if it demands them."
)
_EXIT_CODES = {
    "FAILED_PRECONDITION": 2,
    "UNAUTHENTICATED": 2,
    "PERMISSION_DENIED": 2,
    "UNIMPLEMENTED": 2,
    "CANCELLED": 5,
}
"""Exit codes of the status codes that have no class of their own; 1 for all others."""
_NOT_REACHED = (
    *("failed to connect", "connections to all backends", "last error:", "address list"),
    *("errors resolving", "name resolution", "dns resolution", "handshake", "socket closed"),
    *("connection reset", "connection refused", "broken pipe", "recvmsg:", "goaway"),
)
"""Parts of the texts, in lower case, with which gRPC itself says that a connection failed. Its
errors do not tell otherwise whether a server sent them."""


class ServingError(Exception):
    """Base class of the errors; the text is the message of the server where it sent one."""

    exit_code = 1
    code = "UNKNOWN"
    """Name of the gRPC status code."""
    from_server = False
    """Whether the error was sent by a server. Otherwise the client found a bad argument, or could
    not reach the server."""

    def __init_subclass__(cls, code: str = "", exit_code: int = 0) -> None:
        super().__init_subclass__()
        cls.code = code or cls.code
        cls.exit_code = exit_code or cls.exit_code


class InvalidArgument(ServingError, code="INVALID_ARGUMENT", exit_code=2):
    """The server, or the client before it, refuses the content of the request."""


class NotFound(ServingError, code="NOT_FOUND", exit_code=2):
    """The server does not know the model or the version."""


class Unavailable(ServingError, code="UNAVAILABLE", exit_code=5):
    """No server answers, or it is starting or stopping. The call can be retried."""


class DeadlineExceeded(ServingError, code="DEADLINE_EXCEEDED", exit_code=5):
    """The server did not answer within the timeout."""


class ResourceExhausted(ServingError, code="RESOURCE_EXHAUSTED", exit_code=5):
    """The server is overloaded, or a message exceeds its limit."""


_CLASSES = {kind.code: kind for kind in ServingError.__subclasses__()}


def from_rpc(error: grpc.RpcError, target: str, timeout: float) -> ServingError:
    """Return the typed error of a failed call to `target` that had `timeout` seconds."""
    name = error.code().name
    details = error.details() or name
    if name == Unavailable.code and any(text in details.lower() for text in _NOT_REACHED):
        return Unavailable(f"No model server is available at {target} ({details}). {_ADVICE}")
    if name == DeadlineExceeded.code:  # the deadline of the call, which gRPC tells the server
        return DeadlineExceeded(
            f"No answer from {target} within {timeout:g} s ({details}). Allow more time with "
            "`timeout`, or send fewer images at once."
        )
    answered = _CLASSES.get(name, ServingError)(details)
    answered.code = name
    answered.exit_code = _EXIT_CODES.get(name, answered.exit_code)
    answered.from_server = True
    return answered
