"""Connection settings: address, TLS, retries and keepalive.

The settings become gRPC channel arguments and a service config, so that gRPC itself does retries,
back-off and load balancing, and one deadline covers a call with all its retries.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import grpc

from imgpipe.serving.client.errors import InvalidArgument
from imgpipe.serving.client.protos import MODEL_SERVICE, PREDICTION_SERVICE, SERVER_SERVICE

if TYPE_CHECKING:
    import ssl

KEEPALIVE_MS = 30_000
"""gRPC sends a keepalive ping on a connection that has an open call and was silent this long."""
KEEPALIVE_TIMEOUT_MS = 10_000
_LARGEST_RETRIED = 1 << 30  # bytes of a request; the limit of a message is checked elsewhere
IDLE_MS = 210_000
"""An unused connection is closed before the 4 minutes after which Azure's load balancer drops it
(https://github.com/confluentinc/librdkafka/pull/3289); the next call opens a new one."""
FIRST_RECONNECT_MS, LONGEST_RECONNECT_MS = 100, 2_000
"""gRPC's default back-off grows to two minutes, in which it would not notice that a server is back.
"""
MAX_ATTEMPTS = 5
"""gRPC's own limit; it makes no more attempts than this
(https://github.com/grpc/proposal/blob/master/A6-client-retries.md)."""
_RETRYABLE = ("UNAVAILABLE", "CANCELLED")
_LOOPBACK = ("localhost", "127.", "[::1]", "ipv4:127.", "unix:")
_REST = ("http://", "https://")
_PORT, _PORT_DIGITS, _LAST_PORT = re.compile(r":0*([0-9]+)(?:,|$)"), 5, 65_535
"""A port in an address, of which gRPC would use the last 16 bits only."""
_HEADER_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")


@dataclass(frozen=True)
class Retry:
    """How calls are retried while a server is unavailable, within the deadline of the call.

    Calls are retried on UNAVAILABLE, and on CANCELLED from the server, which is how a Python gRPC
    server ends the calls that reach it while it stops. Other errors are not retried. The first
    pause takes ``first_pause`` seconds and each further pause ``factor`` times the previous one,
    up to ``longest_pause`` seconds, with a random jitter. The defaults are those that KServe uses
    between its components.
    """

    attempts: int = MAX_ATTEMPTS
    """Number of attempts, including the first; 1 disables retries."""
    first_pause: float = 0.1
    factor: float = 2.0
    longest_pause: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise InvalidArgument(
                f"attempts must be 1 (no retry) to {MAX_ATTEMPTS}. Received: {self.attempts!r}."
            )
        pauses = (self.first_pause, self.longest_pause)
        if not all(0 < pause < math.inf for pause in pauses) or not 1 <= self.factor < math.inf:
            raise InvalidArgument(
                "The pauses between retries must be above 0 s and their factor 1 or more. "
                f"Received: {self.first_pause!r} s, {self.longest_pause!r} s, factor "
                f"{self.factor!r}."
            )


@dataclass(frozen=True)
class Tls:
    """TLS, or mutual TLS with a client certificate. Values are paths of PEM files, or PEM bytes."""

    ca: str | Path | bytes | None = None
    """Certificate authorities to trust; None for those of the system."""
    certificate: str | Path | bytes | None = None
    """Certificate chain of the client, for servers that require one."""
    key: str | Path | bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    """Name in the certificate of the server where it differs from the address; gRPC only."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidArgument(
                "TLS needs a certificate and its key together. Received only one of them."
            )

    def credentials(self) -> Any:
        """Return the credentials for a gRPC channel.

        Raises:
            InvalidArgument: A file cannot be read, or the authorities are no certificates.
        """
        if self.ca is not None:
            self._trusting()  # gRPC would only fail to connect
        return grpc.ssl_channel_credentials(
            _pem(self.ca), private_key=_pem(self.key), certificate_chain=_pem(self.certificate)
        )

    def context(self) -> ssl.SSLContext:
        """Return the SSL context for HTTPS.

        Raises:
            InvalidArgument: The authorities are no certificates, or the certificate and key are
                bytes, cannot be read or do not match.
        """
        import ssl

        context = self._trusting()
        if self.certificate is not None and self.key is not None:
            if isinstance(self.certificate, bytes) or isinstance(self.key, bytes):
                raise InvalidArgument(
                    "Over HTTPS the certificate and the key must be paths of files. Received bytes."
                )
            try:
                context.load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                raise InvalidArgument(
                    f"{self.certificate} and {self.key} are not a certificate and its key: {error}."
                ) from error
        return context

    def _trusting(self) -> ssl.SSLContext:
        """Return an SSL context with the authorities."""
        import ssl

        # The standard library reads the authorities from a text, but the client's own certificate
        # and key only from files.
        ca = _pem(self.ca)
        # Comments between the certificates may have any letters.
        text = None if ca is None else ca.decode("ascii", "ignore")
        try:
            context = ssl.create_default_context(cadata=text or None)
            if text == "":
                raise ValueError("it is empty")
        except (ValueError, ssl.SSLError) as error:
            raise InvalidArgument(
                f"{self.ca!s:.200} holds no PEM certificates: {error}."
            ) from error
        return context


def _pem(value: str | Path | bytes | None) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        return Path(value).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"Cannot read {value}: {error.strerror}.") from error


@dataclass(frozen=True)
class Connection:
    """Settings of a connection to a server; ``Client`` explains each of them."""

    target: str
    timeout: float = 30.0
    wait_for_ready: bool = False
    retry: Retry = Retry()
    tls: Tls | None = None
    health_check: bool = False
    max_message_bytes: int = -1
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    compression: Literal["", "gzip"] = ""

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise InvalidArgument(
                f"timeout must be a number of seconds above 0. Received: {self.timeout!r}."
            )
        if self.target.startswith("http://") and self.tls is not None:
            raise InvalidArgument(
                f"TLS over REST needs an https:// address. Received: {self.target!r}."
            )
        no_ports = self.rest or self.target.startswith(("unix", "xds"))
        ports = () if no_ports else _PORT.findall(self.target)
        if any(len(port) > _PORT_DIGITS or int(port) > _LAST_PORT for port in ports):
            raise InvalidArgument(
                f"A port is a number up to {_LAST_PORT}. Received the address {self.target!r}."
            )
        if self.compression not in ("", "gzip"):
            raise InvalidArgument(
                f'compression must be "" or "gzip". Received: {self.compression!r}.'
            )
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise InvalidArgument(
                    "A header needs a name of letters, digits and -_. and a value of printable "
                    f"ASCII, as in Authorization: Bearer TOKEN. Received the name {name!r}."
                )

    @property
    def rest(self) -> bool:
        """Whether the target is an address of the REST interface."""
        return self.target.startswith(_REST)

    def channel_arguments(self) -> list[tuple[str, int | str]]:
        """Return the options of a gRPC channel."""
        result: list[tuple[str, int | str]] = [
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.client_idle_timeout_ms", IDLE_MS),
            ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", LONGEST_RECONNECT_MS),
            ("grpc.service_config", json.dumps(self.service_config())),
            # gRPC keeps a request for another attempt only up to this size, 256 KiB by default.
            ("grpc.per_rpc_retry_buffer_size", _LARGEST_RETRIED),
        ]
        if self.target.startswith(_LOOPBACK):
            result.append(("grpc.enable_http_proxy", 0))  # a proxy cannot reach our loopback
        host = next((value for name, value in self.headers.items() if name.lower() == "host"), "")
        if host:
            result.append(("grpc.default_authority", host))
        if self.tls is not None and self.tls.server_name:
            result.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return result

    def call_metadata(self) -> list[tuple[str, str]]:
        """Return the headers as metadata of a gRPC call, without Host, which the channel sets."""
        # gRPC refuses metadata whose names have capital letters.
        named = [(name.lower(), value) for name, value in self.headers.items()]
        return [(name, value) for name, value in named if name != "host"]

    def service_config(self) -> dict[str, Any]:
        """Return gRPC's service config, with round-robin over all addresses of the target."""
        method: dict[str, Any] = {
            "name": [
                {"service": name} for name in (PREDICTION_SERVICE, MODEL_SERVICE, SERVER_SERVICE)
            ]
        }
        if self.retry.attempts > 1:
            method["retryPolicy"] = {
                "maxAttempts": self.retry.attempts,
                "initialBackoff": _duration(self.retry.first_pause),
                "maxBackoff": _duration(self.retry.longest_pause),
                "backoffMultiplier": self.retry.factor,
                "retryableStatusCodes": list(_RETRYABLE),
            }
        # gRPC's default, pick_first, sends all requests to one of several servers; round_robin is
        # what https://github.com/tensorflow/serving/issues/662 recommends.
        config: dict[str, Any] = {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [method],
        }
        if self.health_check:
            config["healthCheckConfig"] = {"serviceName": ""}  # the whole server
        return config


def _duration(seconds: float) -> str:
    """Return a pause as JSON has it in protobuf: in decimals, without an exponent.

    gRPC counts whole milliseconds and varies a pause by 20 %. It refuses a pause of 0, and never
    ends one that the variation makes 0.
    """
    return f"{max(seconds, 0.002):.3f}s"
