"""What both ports share: the limit of open files, the error of an address that is taken, and TLS.

TLS takes the PEM files that the settings name. Renewed files need a restart.
"""

from __future__ import annotations

import errno
import resource
import socket
import ssl
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.system import raise_open_files
from imgpipe.serving.server.settings import Settings

IDLE_S = 60
"""Seconds until a connection is closed that has no request, or whose client reads no answer."""
MAX_FILES = 65_536
"""More files than the server needs. Some systems allow a billion, and selectors allocate memory for
all of them."""


def raise_limit() -> None:
    """Raise the soft limit to the hard limit; the usual soft limit of 1,024 is for `select`."""
    raise_open_files(MAX_FILES)


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


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """Return an SSL context for TLS 1.2 or newer; None for plain connections.

    Raises:
        ConfigError: A file cannot be read or is not in PEM format, the key and the certificate do
            not match, or the key is encrypted.
    """
    if not settings.ssl_key_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for flag in ("ssl_key_file", "ssl_certificate_file", "ssl_client_ca_file"):
        file = getattr(settings, flag)
        try:
            if file:
                Path(file).read_bytes()  # the errors of Python's `ssl` do not name the file
        except OSError as error:
            raise ConfigError(
                f"cannot listen with TLS: --{flag} {file} cannot be read: {error.strerror}."
            ) from error
    try:
        context.load_cert_chain(
            settings.ssl_certificate_file, settings.ssl_key_file, password=_no_password
        )
        if settings.ssl_client_ca_file:
            context.load_verify_locations(settings.ssl_client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except ssl.SSLError as error:
        raise ConfigError(
            "cannot listen with TLS: the key and the certificate do not match, or a file is not in "
            "PEM format. Check the files of --ssl_key_file, --ssl_certificate_file and "
            "--ssl_client_ca_file."
        ) from error
    return context


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
    authority = settings.ssl_client_ca_file
    return grpc.ssl_server_credentials(
        [(key, certificate)], Path(authority).read_bytes() if authority else None, bool(authority)
    )
