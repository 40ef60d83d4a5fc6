"""TLS of both ports, from the PEM files that the settings name. Renewed files need a restart."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc

from imgpipe.models.errors import ConfigError
from imgpipe.serving.server.settings import Settings


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
    except OSError as error:
        raise ConfigError(f"cannot listen with TLS: {error}.") from error
    return context


def _no_password() -> str:
    """Refuse an encrypted key, for whose password OpenSSL would ask on the terminal."""
    raise ConfigError(
        "cannot listen with TLS: the key is encrypted, and the server has no password for it. "
        "Decrypt it with: openssl pkey -in KEY -out NEW."
    )


def grpc_credentials(settings: Settings) -> Any:
    """Return credentials for gRPC from files that ``server_context`` has accepted."""
    key, certificate = (
        Path(file).read_bytes() for file in (settings.ssl_key_file, settings.ssl_certificate_file)
    )
    authority = settings.ssl_client_ca_file
    return grpc.ssl_server_credentials(
        [(key, certificate)], Path(authority).read_bytes() if authority else None, bool(authority)
    )
