"""Errors of a server that cannot start, each with its exit code of the command line."""

from __future__ import annotations

import errno
import socket
from typing import ClassVar


class ServerError(Exception):
    """Base class of the errors."""

    exit_code: ClassVar[int] = 1


class BadArgument(ServerError):
    """An argument or a configuration file is not valid."""

    exit_code = 2


class PortBusy(ServerError):
    """The server cannot listen on the address."""

    exit_code = 5

    @classmethod
    def of(cls, address: str, error: OSError, port: str) -> PortBusy:
        """Return the error for an address on which a socket cannot listen.

        Args:
            address: The address, for the message.
            error: The error of the socket.
            port: How another port is chosen, such as "another --port".
        """
        if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            advice = "the host is not an address of this machine. Choose another --host."
        elif error.errno == errno.EADDRINUSE:
            advice = f"the port is taken. Stop the other server, or choose {port}."
        else:
            advice = f"{error.strerror or error}. Choose {port}."
        return cls(f"Cannot listen on {address}: {advice}")
