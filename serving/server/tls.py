"""TLS key and certificates of both ports, which can be replaced while the server runs."""

from __future__ import annotations

import contextlib
import logging
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.textproto import SslConfig, read_ssl

POLL_S = 5.0
"""Seconds between two checks of the certificate file for changes."""
_log = logging.getLogger(__name__)


def server_context(tls: SslConfig) -> ssl.SSLContext:
    """Return an SSL context for TLS 1.2 or newer, with client certificates where required.

    Raises:
        ssl.SSLError: The key and the certificate do not match, or a text is not in PEM format.
        BadArgument: The key is encrypted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _file(f"{tls.server_key}\n{tls.server_cert}\n") as name:
        context.load_cert_chain(name, password=_no_password)
    if tls.custom_ca:
        with _file(tls.custom_ca) as name:
            context.load_verify_locations(name)
    if tls.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def _file(text: str) -> Iterator[str]:
    """Yield the name of a file with ``text``, as ssl reads keys and texts with comments only so."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".pem") as file:  # mode 0600
        file.write(text)
        file.flush()
        yield file.name


def _no_password() -> str:
    """Refuse an encrypted key, for whose password OpenSSL would ask on the terminal."""
    raise BadArgument(
        "Cannot listen with TLS: server_key is encrypted, and the server has no password for it. "
        "Decrypt it with: openssl pkey -in KEY -out NEW."
    )


class Certificates:
    """The certificates for new connections. Open connections keep their certificates.

    Args:
        tls: Key and certificates.
        file: The file that they are from, which is read again when it changes.

    Raises:
        BadArgument: The key and the certificate do not match, or the key is encrypted.
    """

    def __init__(self, tls: SslConfig, file: Path | None = None) -> None:
        self.tls = tls
        try:
            self.context = server_context(tls)
        except ssl.SSLError as error:
            raise BadArgument(
                "Cannot listen with TLS: the key and the certificate do not match, or one of them "
                "is not in PEM format. Check the file of --ssl_config_file."
            ) from error
        self._file = file
        self._seen = self._fingerprint()

    def follow(self, stopping: threading.Event) -> None:
        """Check the file for changes until ``stopping`` is set."""
        while self._file and not stopping.wait(POLL_S):
            self.reload_changed()

    def reload_changed(self) -> None:
        """Read the file again if it has changed, and use its certificates if they are valid."""
        now = self._fingerprint()
        if self._file is None or now is None or now == self._seen:
            return
        self._seen = now  # also of a wrong file, whose error is then logged once
        try:
            tls = read_ssl(self._file)
            context = server_context(tls)
        except (BadArgument, OSError, ValueError, TypeError) as error:
            _log.error("new certificates are not valid, the current ones stay in use: %s", error)
            return
        if tls.client_verify != self.tls.client_verify:
            _log.error("%s: a change of client_verify needs a restart", self._file)
            return
        self.tls, self.context = tls, context
        _log.info("new connections use the certificates of %s", self._file)

    def _fingerprint(self) -> tuple[int, int, int] | None:
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return None  # the file is being replaced
        return status.st_mtime_ns, status.st_size, status.st_ino
