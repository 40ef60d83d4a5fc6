"""How a client reaches its server: addresses, TLS, retries, keepalive.

All of it ends as gRPC channel arguments and a service config, so that retries, back-off and load
balancing are gRPC's own: one deadline covers a call with all its retries.
"""

from __future__ import annotations

import json
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
"""A connection that carries a call and is silent this long is asked whether it still lives."""
KEEPALIVE_TIMEOUT_MS = 10_000
IDLE_MS = 210_000
"""An unused connection is given up before the 4 minutes after which load balancers forget it
silently; the next call makes a new one."""
FIRST_RECONNECT_MS, LONGEST_RECONNECT_MS = 100, 2_000
"""gRPC's own grow to two minutes, in which a server that is back goes unnoticed."""
MAX_ATTEMPTS = 5
"""gRPC makes no more, whatever is asked for."""
_NOT_THERE = ("UNAVAILABLE", "CANCELLED")
_LOOPBACK = ("localhost", "127.", "[::1]", "ipv4:127.", "unix:")
_REST = ("http://", "https://")
_HEADER_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")


@dataclass(frozen=True)
class Retry:
    """When a server is not there: try again, within the call's deadline.

    That is UNAVAILABLE, and a CANCELLED that comes from the server: so ends what reaches a gRPC
    server of Python in the moment in which it stops. Whatever else a server answers stands.
    The pauses are ``first_pause`` s, then ``factor`` times the one before, at most
    ``longest_pause`` s, each shortened or lengthened a little by chance. The default is what KServe
    uses between its own parts.
    """

    attempts: int = MAX_ATTEMPTS
    """The first one included; 1 for no retry."""
    first_pause: float = 0.1
    factor: float = 2.0
    longest_pause: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise InvalidArgument(
                f"attempts is 1 (no retry) to {MAX_ATTEMPTS}. Received: {self.attempts!r}."
            )
        if min(self.first_pause, self.longest_pause) <= 0 or self.factor < 1:
            raise InvalidArgument(
                "Pauses are above 0 s and grow by a factor of 1 or more. Received: "
                f"{self.first_pause!r}, {self.longest_pause!r}, {self.factor!r}."
            )


@dataclass(frozen=True)
class Tls:
    """Encryption, and with a key who we are (mTLS). Values are paths of PEM files, or PEM bytes."""

    ca: str | Path | bytes | None = None
    """Authorities to trust; None for those of the system."""
    certificate: str | Path | bytes | None = None
    """Our own certificate chain, where the server wants one."""
    key: str | Path | bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    """The name in the server's certificate where it is not the address; gRPC only."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidArgument("TLS takes a certificate and its key together. Received one.")

    def credentials(self) -> Any:
        """For a gRPC channel."""
        return grpc.ssl_channel_credentials(
            _pem(self.ca), private_key=_pem(self.key), certificate_chain=_pem(self.certificate)
        )

    def context(self) -> ssl.SSLContext:
        """For HTTPS."""
        import ssl

        ca = _pem(self.ca)
        context = ssl.create_default_context(cadata=ca.decode("ascii") if ca else None)
        if self.certificate is not None and self.key is not None:
            if isinstance(self.certificate, bytes) or isinstance(self.key, bytes):
                raise InvalidArgument(
                    "Over HTTPS certificate and key are paths of files. Received bytes."
                )
            try:
                context.load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                raise InvalidArgument(
                    f"{self.certificate} and {self.key} are no certificate and key: {error}."
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
    """Everything about the way to a server; see ``Client`` for what each means."""

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
            raise InvalidArgument(f"timeout is in seconds and above 0. Received: {self.timeout!r}.")
        if self.target.startswith("http://") and self.tls is not None:
            raise InvalidArgument(f"TLS over REST is https://. Received: {self.target!r}.")
        if self.compression not in ("", "gzip"):
            raise InvalidArgument(f'compression is "" or "gzip". Received: {self.compression!r}.')
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise InvalidArgument(
                    "A header is a name of letters, digits and -_. with a value of printable "
                    f"ASCII, as in Authorization: Bearer TOKEN. Received the name {name!r}."
                )

    @property
    def rest(self) -> bool:
        """Whether the target is an address of the REST interface."""
        return self.target.startswith(_REST)

    def channel_arguments(self) -> list[tuple[str, int | str]]:
        """Options of a gRPC channel."""
        result: list[tuple[str, int | str]] = [
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.client_idle_timeout_ms", IDLE_MS),
            ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", LONGEST_RECONNECT_MS),
            ("grpc.service_config", json.dumps(self.service_config())),
        ]
        if self.target.startswith(_LOOPBACK):
            result.append(("grpc.enable_http_proxy", 0))  # a proxy cannot reach our loopback
        if host := self._host_header():
            result.append(("grpc.default_authority", host))
        if self.tls is not None and self.tls.server_name:
            result.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return result

    def _host_header(self) -> str:
        return next((v for name, v in self.headers.items() if name.lower() == "host"), "")

    def call_metadata(self) -> list[tuple[str, str]]:
        """The headers as metadata of a gRPC call; Host is the channel's authority instead."""
        named = [(name.lower(), value) for name, value in self.headers.items()]
        return [(name, value) for name, value in named if name != "host"]

    def grpc_compression(self) -> grpc.Compression | None:
        """How requests over gRPC are compressed; None where they are not."""
        return grpc.Compression.Gzip if self.compression else None

    def service_config(self) -> dict[str, Any]:
        """gRPC's service config: requests go to all addresses of the target in turn."""
        method: dict[str, Any] = {
            "name": [
                {"service": name} for name in (PREDICTION_SERVICE, MODEL_SERVICE, SERVER_SERVICE)
            ]
        }
        if self.retry.attempts > 1:
            method["retryPolicy"] = {
                "maxAttempts": self.retry.attempts,
                "initialBackoff": f"{self.retry.first_pause}s",
                "maxBackoff": f"{self.retry.longest_pause}s",
                "backoffMultiplier": self.retry.factor,
                "retryableStatusCodes": list(_NOT_THERE),
            }
        config: dict[str, Any] = {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [method],
        }
        if self.health_check:
            config["healthCheckConfig"] = {"serviceName": ""}  # the whole server
        return config
