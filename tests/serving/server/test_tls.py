"""TLS and mutual TLS by ssl_config_file.

The tests check which clients are accepted and that nothing older than TLS 1.2 is.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import warnings
from pathlib import Path
from unittest.mock import Mock

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imgpipe.serving.server import ModelServer, grpc_port
from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.textproto import SslConfig, read_ssl
from imgpipe.serving.server.tls import Certificates

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the certificates"
)


@pytest.fixture(scope="module")
def pems(tmp_path_factory) -> dict[str, bytes]:
    """Return the content of key and certificate files by name.

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
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture(scope="module", params=[False, True], ids=["TLS", "mTLS"])
def secured(request, pems, tmp_path_factory):
    """Serve with a text file's settings; yields the target and whether clients are verified."""
    base = tmp_path_factory.mktemp("secured")
    quoted = {name: data.decode().replace("\n", "\\n") for name, data in pems.items()}
    text = f'server_key: "{quoted["server.key"]}" server_cert: "{quoted["server.pem"]}"'
    if request.param:
        text += f' custom_ca: "{quoted["ca.pem"]}" client_verify: true'
    (base / "ssl.config").write_text(text)
    options = ServerOptions(tls=read_ssl(base / "ssl.config"))
    with ModelServer("m", base, options=options) as server:
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


def test_a_comment_in_a_file_of_authorities_may_have_any_letter(pems, tmp_path):
    key, certificate, ca = (pems[n].decode() for n in ("server.key", "server.pem", "ca.pem"))
    tls = SslConfig(key, certificate, f"# Zertifizierungsstelle für Müller\n{ca}", True)
    with (
        ModelServer("m", tmp_path, options=ServerOptions(tls=tls)) as server,
        grpc.secure_channel(server.target, credentials(pems)) as channel,
    ):
        assert status(channel) == "OK"


def test_an_encrypted_key_is_refused_without_asking_for_its_password(pems, tmp_path):
    (tmp_path / "key").write_bytes(pems["server.key"])
    command = ["openssl", "pkey", "-in", tmp_path / "key", "-aes256", "-passout", "pass:secret"]
    key = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    with pytest.raises(BadArgument, match="server_key is encrypted"):
        Certificates(SslConfig(key, pems["server.pem"].decode()))


@pytest.mark.parametrize("problem", [OSError("no space"), TypeError("no text")])
def test_certificates_that_cannot_be_renewed_leave_the_current_ones(
    pems, tmp_path, monkeypatch, problem
):
    file = tmp_path / "ssl.config"
    file.write_text("old")
    tls = SslConfig(pems["server.key"].decode(), pems["server.pem"].decode())
    certificates = Certificates(tls, file)
    context = certificates.context
    file.write_text("renewed")
    monkeypatch.setattr("imgpipe.serving.server.tls.read_ssl", Mock(side_effect=problem))
    certificates.reload_changed()
    assert certificates.context is context


def test_a_key_that_does_not_match_the_certificate_is_refused(pems, tmp_path):
    tls = SslConfig(pems["client.key"].decode(), pems["server.pem"].decode())
    with pytest.raises(BadArgument, match="do not match"):
        ModelServer("m", tmp_path, options=ServerOptions(tls=tls)).start()


def test_handshakes_have_a_deadline(pems, tmp_path, monkeypatch):
    monkeypatch.setattr(grpc_port, "HANDSHAKE_S", 0.5)
    tls = SslConfig(pems["server.key"].decode(), pems["server.pem"].decode())
    with ModelServer("m", tmp_path, options=ServerOptions(tls=tls)) as server:
        host, port = server.target.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=100) as connection:
            assert connection.recv(1) == b""
