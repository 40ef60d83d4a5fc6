"""What both ports share: the limit of connections, and the error of an address that is taken."""

from __future__ import annotations

import errno
import ipaddress
import resource
import socket

from imgpipe.models.errors import ResourceError

IDLE_S = 60
"""Seconds until a connection is closed that has had its last answer, or whose client has gone."""
MAX_CONNECTIONS = 4096
"""Largest number of open connections of a port, whatever the system allows."""
BACKLOG = 2048
"""Connections that wait in the system until they are accepted."""


def connections(share: float) -> int:
    """Return how many connections a port may have, which use a `share` of the open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    system = MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else int(soft * share)
    return min(system, MAX_CONNECTIONS)


def bound(host: str, port: int, another: str) -> socket.socket:
    """Return a TCP socket that listens on an address, with or without the brackets of IPv6.

    Port 0 is any free one. A ResourceError says why it cannot listen, and that the option
    `another` chooses another port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio only turns off Nagle's algorithm (40 ms between head and body) where the protocol
    # is given.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _end_without_client(made)
        made.bind((host.strip("[]"), port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        advice = f"{error.strerror}. Choose another port: {another}."
        if error.errno == errno.EADDRINUSE:
            advice = f"the port is taken. Choose another port: {another}."
        elif error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            advice = "the host is not an address of this machine. Choose another --host."
        raise ResourceError(f"cannot listen on {host}:{port}: {advice}") from error
    return made


def _end_without_client(made: socket.socket) -> None:
    """Let the system end connections whose client has gone, or reads no answer.

    Connections have the options of the socket that accepts them.
    """
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A Mac has neither, and then the times of the system.
    for option, value in (("TCP_KEEPIDLE", IDLE_S), ("TCP_USER_TIMEOUT", IDLE_S * 1000)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def is_loopback(host: str) -> bool:
    """Return whether a host, without the brackets of IPv6, is this machine alone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3
    # A socket for IPv6 has IPv4 addresses as ::ffff:127.0.0.1, which is no loopback address before
    # Python 3.13.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
