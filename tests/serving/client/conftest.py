"""Fixtures for clients, scripted gRPC servers and certificates."""

from __future__ import annotations

import datetime
import ipaddress
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from imgpipe.serving.client import Client


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Return a function that calls one method of a new client.

    Its arguments are target, method and the method's arguments. ``client`` holds the client's
    options.
    """

    def do(target: str, method: str, *arguments: Any, client: dict | None = None, **options: Any):
        with Client(target, **(client or {})) as made:
            return getattr(made, method)(*arguments, **options)

    return do


@dataclass
class Scripted:
    """A gRPC server that records the bytes of every request and answers by ``answer``."""

    answer: Callable[[str, bytes, Any], bytes]
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    """Seconds that were left until the deadline when each call arrived."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def service(self, details: Any) -> Any:
        def handle(request: bytes, context: Any) -> bytes:
            with self._lock:
                self.seen.append((details.method, request))
                self.left.append(context.time_remaining())
            return self.answer(details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(handle)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, scripted: Scripted) -> None:
        self._scripted = scripted

    def service(self, details: Any) -> Any:
        return self._scripted.service(details)


@pytest.fixture
def scripted() -> Iterator[Callable[..., tuple[str, Scripted]]]:
    """Return a function that starts a scripted gRPC server.

    It takes the function that answers and the credentials; it returns the target and the
    ``Scripted``.
    """
    servers: list[Any] = []

    def start(
        answer: Callable[[str, bytes, Any], bytes] = lambda *_: b"",
        credentials: Any = None,
    ) -> tuple[str, Scripted]:
        made = Scripted(answer)
        server = grpc.server(futures.ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers([_Handler(made)])
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}", made

    yield start
    for server in servers:
        server.stop(0).wait()


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files.

    ``ca`` is a certificate authority. ``server`` and ``client`` are pairs of a certificate, which
    this authority issued, and its key. ``stranger`` is the certificate of another authority.
    """

    ca: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]
    stranger: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Create the certificates anew, because a private key in the repository is not secret."""
    folder = tmp_path_factory.mktemp("certificates")
    ca = _issue(folder, "ca", None)
    stranger = _issue(folder, "stranger", None)
    return Certificates(
        ca[0], _issue(folder, "server", ca), _issue(folder, "client", ca), stranger[0]
    )


def _issue(folder: Path, name: str, issuer: Sequence[Path] | None) -> tuple[Path, Path]:
    """Write a certificate and its key; it is self-signed if ``issuer`` is None."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signed_by = key, subject
    if issuer is not None:
        authority = x509.load_pem_x509_certificate(issuer[0].read_bytes())
        signer = serialization.load_pem_private_key(issuer[1].read_bytes(), None)
        signed_by = authority.subject
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    certificate = builder.sign(signer, hashes.SHA256())
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths
