"""The connection of a client, and the messages on it.

The definitions are stored in `protos.binpb` (written by `packaging/client_protos.py`) and
loaded into a private descriptor pool. In the default pool they would clash with the definitions of
TensorFlow where the same process imports it. They take less than a second and 60 MiB; the modules
of tensorflow-serving-api import TensorFlow (https://github.com/tensorflow/serving/issues/271),
whose cost is in docs/benchmarks.md, "Constants of the code".

They become gRPC channel arguments and a service config, so that gRPC itself does retries, back-off
and load balancing, and one deadline covers a call with all its retries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from imgpipe.serving.client.errors import InvalidArgument

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
SIGNATURE_DEF = "signature_def"
"""The field of a model's metadata that has its signatures."""
MAX_ATTEMPTS = 5
"""gRPC's own limit; it makes no more attempts than this
(https://github.com/grpc/proposal/blob/master/A6-client-retries.md)."""
_CHANNEL: tuple[tuple[str, int], ...] = (
    # gRPC's own limit of 4 MiB would refuse a batch of a few images.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A connection that has an open call is pinged when it was silent this long.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # An unused connection is closed before the 4 minutes after which Azure's load balancer drops it
    # (https://github.com/confluentinc/librdkafka/pull/3289); the next call opens a new one.
    ("grpc.client_idle_timeout_ms", 210_000),
    # gRPC's default back-off grows to two minutes, in which it would not notice that a server is
    # back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # gRPC keeps a request for another attempt only up to this size, 256 KiB by default.
    ("grpc.per_rpc_retry_buffer_size", 1 << 30),
)
_LOOPBACK = ("localhost", "127.", "[::1]", "ipv4:127.", "unix:")
#: Schemes of gRPC's addresses in which hosts and ports follow, and others
#: (https://github.com/grpc/grpc/blob/master/doc/naming.md).
_SCHEMES = ("dns", "ipv4", "ipv6")
_OTHER_SCHEMES = ("unix", "unix-abstract", "vsock", "xds", "google-c2p")
_ADDRESS = re.compile(r"(?:[^][:/,@?\s]+|\[[0-9A-Fa-f:.%\w]+\])(?::([0-9]{1,5}))?")
_USER_INFO = re.compile(r"[^/,]*@")
"""User and password of an address, which no message repeats."""
_LAST_PORT = 65535
_HEADER_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    data = Path(__file__).with_name("protos.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool


POOL = _load()
"""The definitions of all messages of the client."""


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"tensorflow.serving.{name}"))


PredictRequest = _message("PredictRequest")
PredictResponse = _message("PredictResponse")
GetModelMetadataRequest = _message("GetModelMetadataRequest")
GetModelMetadataResponse = _message("GetModelMetadataResponse")
SignatureDefMap = _message("SignatureDefMap")
GetModelStatusRequest = _message("GetModelStatusRequest")
GetModelStatusResponse = _message("GetModelStatusResponse")
STATES: dict[int, str] = {
    value.number: value.name
    for value in POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State").values
}


@dataclass(frozen=True)
class Method:
    """One RPC: its path and the class of its response."""

    path: str
    response: Any


PREDICT = Method(f"/{PREDICTION_SERVICE}/Predict", PredictResponse)
METADATA = Method(f"/{PREDICTION_SERVICE}/GetModelMetadata", GetModelMetadataResponse)
STATUS = Method(f"/{MODEL_SERVICE}/GetModelStatus", GetModelStatusResponse)


@dataclass(frozen=True)
class Tls:
    """TLS, or mutual TLS with a client certificate. Values are paths of PEM files, or PEM bytes."""

    ca: str | Path | bytes | None = None
    """Certificate authorities to trust; None for those of the system."""
    certificate: str | Path | bytes | None = None
    """Certificate chain of the client, for servers that require one."""
    key: str | Path | bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    """Name in the certificate of the server where it differs from the address."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidArgument(
                "TLS needs a certificate and its key together. Received only one of them."
            )

    def credentials(self) -> Any:
        """Return the credentials for a gRPC channel. Raises InvalidArgument for other files."""
        return grpc.ssl_channel_credentials(
            _pem(self.ca, "CERTIFICATE"),
            private_key=_pem(self.key, "PRIVATE KEY"),
            certificate_chain=_pem(self.certificate, "CERTIFICATE"),
        )


def _pem(value: str | Path | bytes | None, kind: str) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        content = Path(value).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"Cannot read {value}: {error.strerror}.") from error
    if f"{kind}-----".encode() not in content:
        raise InvalidArgument(f"{value} holds no {kind} as PEM, which begins with -----BEGIN.")
    return content


def opened(target: str, attempts: int, tls: Tls | None, headers: Mapping[str, str]) -> Any:
    """Return a gRPC channel, which connects with the first call.

    The arguments are those of `Client`. Raises InvalidArgument if one of them is not valid.
    """
    if not 1 <= attempts <= MAX_ATTEMPTS:
        raise InvalidArgument(
            f"attempts must be 1 (no retry) to {MAX_ATTEMPTS}. Received: {attempts!r}."
        )
    _check_target(target, is_encrypted=tls is not None)
    options: list[tuple[str, int | str]] = [*_CHANNEL]
    options.append(("grpc.service_config", json.dumps(_service_config(attempts))))
    if target.startswith(_LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))  # a proxy cannot reach our loopback
    host = next((value for name, value in headers.items() if name.lower() == "host"), "")
    if host:
        options.append(("grpc.default_authority", host))
    if tls is None:
        return grpc.insecure_channel(target, options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.secure_channel(target, tls.credentials(), options)


def _check_target(target: str, is_encrypted: bool) -> None:
    """Refuse an address that gRPC would take for another one, or look up as a name without end.

    Without a port, gRPC takes that of HTTPS, which a gateway with TLS may have.
    """
    scheme, _, rest = target.partition(":")
    addresses = [target]
    if scheme in _SCHEMES:
        addresses = rest.rpartition("/")[2].split(",")
    elif scheme in _OTHER_SCHEMES:
        return
    usual_port = "443" if is_encrypted else "0"
    matches = [_ADDRESS.fullmatch(address) for address in addresses]
    ports = [match[1] or usual_port for match in matches if match]
    if len(ports) == len(addresses) and all(0 < int(port) <= _LAST_PORT for port in ports):
        return
    shown = _USER_INFO.sub("…@", target)
    raise InvalidArgument(
        "The client speaks gRPC. Expected: HOST:PORT of the server's gRPC port, such as "
        f"localhost:8500 or [::1]:8500. Received: {shown!r}."
    )


def metadata(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return headers as metadata of a gRPC call, without Host, which the channel sets.

    Raises InvalidArgument if a name or a value has characters that a header must not have.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidArgument(
                "A header needs a name of letters, digits and -_. and a value of printable "
                f"ASCII, as in Authorization: Bearer TOKEN. Received the name {name!r}."
            )
    # gRPC refuses metadata whose names have capital letters.
    named = [(name.lower(), value) for name, value in headers.items()]
    return [(name, value) for name, value in named if name != "host"]


def _service_config(attempts: int) -> dict[str, Any]:
    """Return gRPC's service config, with round-robin over all addresses of the target."""
    services = (PREDICTION_SERVICE, MODEL_SERVICE)
    method: dict[str, Any] = {"name": [{"service": name} for name in services]}
    if attempts > 1:
        method["retryPolicy"] = {  # with the pauses that KServe uses between its components
            "maxAttempts": attempts,
            "initialBackoff": "0.1s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
        }
    # gRPC's default, pick_first, sends all requests to one of several servers; round_robin is what
    # https://github.com/tensorflow/serving/issues/662 recommends.
    return {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [method]}
