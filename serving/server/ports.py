"""What both ports share: the limit of open files, and the error of an address that is taken."""

from __future__ import annotations

import errno
import resource
import socket

from imgpipe.models.errors import ResourceError

MAX_FILES = 65_536
"""More files than the server needs. Some systems allow a billion, and selectors allocate memory for
all of them."""


def raise_limit() -> None:
    """Raise the soft limit to the hard limit; the usual soft limit of 1,024 is for ``select``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections(share: float, most: int) -> int:
    """Return the number of connections that a port may accept.

    Args:
        share: Fraction of the open files that the connections of the port may use.
        most: Largest number of connections, whatever the system allows.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, int(soft * share))


def cannot_listen(address: str, error: OSError, another: str) -> ResourceError:
    """Return the error for an address on which a socket cannot listen.

    Args:
        address: The address, for the message.
        error: The error of the socket.
        another: The option with which a person chooses another port.
    """
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        advice = "the host is not an address of this machine. Choose another --host."
    else:
        why = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror
        advice = f"{why}. Choose another port: {another}."
    return ResourceError(f"cannot listen on {address}: {advice}")
