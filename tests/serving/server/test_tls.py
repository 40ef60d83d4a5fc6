"""TLS and mutual TLS by key and certificate files.

The tests check which clients are accepted and that nothing older than TLS 1.2 is.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import warnings
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imgpipe.models.errors import ConfigError
from imgpipe.serving.server import ModelServer, grpc_port
from imgpipe.serving.server.settings import Settings
from tests.serving.quick import quick

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the certificates"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder of key and certificate files.

    They belong to an authority, a server and a client that it vouches for, and a stranger. They are
    created anew for each run.
    """
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "stranger"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl("req", "-x509", *new, "-subj", f"/CN={name}", *files)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("req", *new, "-subj", f"/CN={name}", *files)
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        extra = ("-extfile", "names", "-out", f"{name}.pem")
        openssl("x509", "-req", "-in", f"{name}.csr", *signer, *extra)
    return folder


@pytest.fixture(scope="module")
def pems(folder) -> dict[str, bytes]:
    """Return the content of the files by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def secure(folder: Path, key: str = "server.key", **changes) -> Settings:
    """Return settings with TLS."""
    return quick(
        ssl_key_file=str(folder / key), ssl_certificate_file=str(folder / "server.pem"), **changes
    )


@pytest.fixture(scope="module", params=[False, True], ids=["TLS", "mTLS"])
def secured(request, folder):
    """Serve with TLS; yields the target and whether clients are verified."""
    authority = str(folder / "ca.pem") if request.param else ""
    with ModelServer("m", folder, secure(folder, ssl_client_ca_file=authority)) as server:
        yield server.target, request.param


def status(channel) -> str:
    """Return the gRPC status code of a health check."""
    try:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def credentials(pems, ca="ca", own="client"):
    """Return channel credentials that trust ``ca`` and present the certificate of ``own``."""
    pair = (pems[f"{own}.key"], pems[f"{own}.pem"]) if own else (None, None)
    return grpc.ssl_channel_credentials(pems[f"{ca}.pem"], *pair)


def test_clients_with_the_right_certificate_are_accepted(secured, pems):
    with grpc.secure_channel(secured[0], credentials(pems)) as channel:
        assert status(channel) == "OK"


@pytest.mark.parametrize("own", [None, "stranger"])
def test_clients_without_the_right_certificate_are_accepted_by_tls_only(secured, pems, own):
    target, verified = secured
    with grpc.secure_channel(target, credentials(pems, own=own)) as channel:
        assert status(channel) == ("UNAVAILABLE" if verified else "OK")


def test_a_client_that_trusts_another_authority_does_not_connect(secured, pems):
    with grpc.secure_channel(secured[0], credentials(pems, ca="stranger")) as channel:
        assert status(channel) == "UNAVAILABLE"


def test_a_connection_without_tls_fails(secured):
    with grpc.insecure_channel(secured[0]) as channel:
        assert status(channel) == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("version", "works"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)],
)
def test_versions_older_than_tls_1_2_are_refused(secured, pems, tmp_path, version, works):
    host, port = secured[0].rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pems["ca.pem"].decode())
    for name in ("client.pem", "client.key"):
        (tmp_path / name).write_bytes(pems[name])
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with socket.create_connection((host, int(port)), timeout=5) as plain:
        if works:
            with context.wrap_socket(plain, server_hostname=host) as wrapped:
                assert wrapped.version() == "TLSv1.2"
        else:
            with pytest.raises((ssl.SSLError, ConnectionError), match=r"EOF|reset|alert|version"):
                context.wrap_socket(plain, server_hostname=host)


def test_an_encrypted_key_is_refused_without_asking_for_its_password(folder):
    command = ["openssl", "pkey", "-in", folder / "server.key", "-aes256", "-passout", "pass:x"]
    key = subprocess.run(command, check=True, capture_output=True).stdout
    (folder / "encrypted.key").write_bytes(key)
    with pytest.raises(ConfigError, match="the key is encrypted"):
        ModelServer("m", folder, secure(folder, "encrypted.key"))


@pytest.mark.parametrize(
    ("key", "words"), [("client.key", "do not match"), ("nope.key", "No such file")]
)
def test_a_key_that_cannot_be_used_is_refused(folder, key, words):
    with pytest.raises(ConfigError, match=words):
        ModelServer("m", folder, secure(folder, key))


def test_handshakes_have_a_deadline(folder, monkeypatch):
    monkeypatch.setattr(grpc_port, "HANDSHAKE_S", 0.5)
    with ModelServer("m", folder, secure(folder)) as server:
        host, port = server.target.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=100) as connection:
            assert connection.recv(1) == b""
