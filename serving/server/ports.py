"""What both ports share: the limit of connections, the error of an address that is taken, and TLS.

TLS takes the PEM files that the settings name. Renewed files need a restart.
"""

from __future__ import annotations

import errno
import ipaddress
import resource
import socket
import ssl
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.serving.server.settings import Settings

IDLE_S = 60
"""Seconds until a connection is closed that has no request, or whose client reads no answer."""
MAX_CONNECTIONS = 4096
"""Largest number of open connections of a port, whatever the system allows."""
BACKLOG = 2048
"""Connections that wait in the system until they are accepted."""
_PEM_FILES = {"ssl_key_file": "PRIVATE KEY", "ssl_certificate_file": "CERTIFICATE"}
"""What each file of TLS holds, in the words of PEM (RFC 7468)."""


def connections(share: float) -> int:
    """Return the number of connections that a port may accept.

    Args:
        share: Fraction of the open files that the connections of the port may use.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    system = MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else int(soft * share)
    return min(system, MAX_CONNECTIONS)


def bound(host: str, port: int, another: str) -> socket.socket:
    """Return a TCP socket that listens on an address.

    Args:
        host: The address, with or without the brackets of IPv6.
        port: Number of the port; 0 for any free one.
        another: The option with which a person chooses another port.

    Raises:
        ResourceError: The socket cannot listen; the message says why, and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio only turns off Nagle's algorithm (40 ms between head and body) where the protocol
    # is given.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


def is_loopback(host: str) -> bool:
    """Return whether a host, without the brackets of IPv6, is this machine alone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3
    # A socket for IPv6 has IPv4 addresses as ::ffff:127.0.0.1, which is no loopback address before
    # Python 3.13.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """Return an SSL context for TLS 1.2 or newer; None for plain connections.

    A file that cannot be used is a ConfigError.
    """
    if not settings.ssl_key_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for flag, kind in _PEM_FILES.items():
        _check_pem(flag, Path(getattr(settings, flag)), kind)
    try:
        context.load_cert_chain(
            settings.ssl_certificate_file, settings.ssl_key_file, password=_no_password
        )
    except ssl.SSLError as error:
        raise ConfigError(
            "cannot listen with TLS: the key and the certificate do not match, or a file is "
            "damaged. Check the files of --ssl_key_file and --ssl_certificate_file."
        ) from error
    return context


def _check_pem(flag: str, file: Path, kind: str) -> None:
    """Check what Python's `ssl` refuses without the name of the file."""
    try:
        problem = "" if f"{kind}-----".encode() in file.read_bytes() else f"holds no {kind} as PEM"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem:
        raise ConfigError(f"cannot listen with TLS: --{flag} {file} {problem}.")


def _no_password() -> str:
    """Refuse an encrypted key, for whose password OpenSSL would ask on the terminal."""
    raise ConfigError(
        "cannot listen with TLS: the key is encrypted, and the server has no password for it. "
        "Decrypt it with: openssl pkey -in KEY -out NEW."
    )


def grpc_credentials(settings: Settings) -> Any:
    """Return credentials for gRPC from files that `server_context` has accepted."""
    import grpc  # not needed for the HTTP port alone

    key, certificate = (
        Path(file).read_bytes() for file in (settings.ssl_key_file, settings.ssl_certificate_file)
    )
    return grpc.ssl_server_credentials([(key, certificate)])
