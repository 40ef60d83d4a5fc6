"""The error of a server that cannot listen on an address."""

from __future__ import annotations

import errno
import socket

from imgpipe.models.errors import ResourceError


class PortBusy(ResourceError):
    """The server cannot listen on the address."""

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
