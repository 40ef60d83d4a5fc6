"""TLS of both ports: which clients are accepted, and nothing older than TLS 1.2."""

import contextlib
import http.client
import socket
import ssl
import subprocess
import warnings

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imgpipe.models.errors import ConfigError
from imgpipe.serving.server import grpc_port
from imgpipe.serving.server.server import ModelServer
from tests.serving.quick import quick


def secure(certificates, **changes):
    """Return settings with TLS on both ports."""
    certificate, key = map(str, certificates.server)
    files = {"ssl_key_file": key, "ssl_certificate_file": certificate}
    return quick(rest_api_port=-1, **files | changes)


@pytest.fixture(scope="module")
def secured(certificates, tmp_path_factory):
    """Serve with TLS."""
    with ModelServer("m", tmp_path_factory.mktemp("tls"), secure(certificates)) as server:
        yield server


def status(server, authority) -> str:
    """Return the gRPC status code of a health check; without an authority, without TLS."""
    channel = grpc.insecure_channel(server.target)
    if authority:
        credentials = grpc.ssl_channel_credentials(authority.read_bytes())
        channel = grpc.secure_channel(server.target, credentials)
    with channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name


def test_clients_need_the_right_authority(secured, certificates):
    assert status(secured, certificates.ca) == "OK"
    assert status(secured, certificates.stranger) == "UNAVAILABLE"
    assert status(secured, None) == "UNAVAILABLE"


def test_rest_has_the_same_tls(secured, certificates):
    assert secured.rest_target.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=certificates.ca)
    port = secured.rest_port

    def answered(plain: bool = False) -> int:
        connection = http.client.HTTPSConnection("localhost", port, context=context)
        if plain:
            connection = http.client.HTTPConnection("127.0.0.1", port)
        with contextlib.closing(connection):
            connection.request("GET", "/v1/health/live")
            return connection.getresponse().status

    assert answered() == 200
    with pytest.raises((OSError, http.client.HTTPException)):
        answered(plain=True)


@pytest.mark.parametrize(
    ("version", "works"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)],
)
def test_versions_older_than_tls_1_2_are_refused(secured, certificates, version, works):
    context = ssl.create_default_context(cafile=certificates.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    for port in (secured.port, secured.rest_port):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            if works:
                with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                    assert wrapped.version() == "TLSv1.2"
            else:
                with pytest.raises((ssl.SSLError, ConnectionError), match=r"EOF|reset|alert|vers"):
                    context.wrap_socket(plain, server_hostname="localhost")


def test_keys_that_cannot_be_used_are_refused(certificates, tmp_path):
    key, encrypted = certificates.server[1], tmp_path / "encrypted.key"
    command = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", encrypted]
    subprocess.run(command, check=True)
    for file, words in (
        (encrypted, "the key is encrypted"),  # OpenSSL would ask for its password
        (certificates.client[1], "do not match"),
        (certificates.server[0], r"--ssl_key_file .* holds no PRIVATE KEY as PEM"),
        (tmp_path, r"--ssl_key_file .* cannot be read: Is a directory"),
        (tmp_path / "nope.key", r"--ssl_key_file .*/nope\.key cannot be read: No such file"),
    ):
        with pytest.raises(ConfigError, match=words):
            ModelServer("m", tmp_path, secure(certificates, ssl_key_file=str(file)))


def test_handshakes_have_a_deadline(certificates, tmp_path, monkeypatch):
    monkeypatch.setattr(grpc_port, "HANDSHAKE_S", 0.5)
    with ModelServer("m", tmp_path, secure(certificates)) as server:
        host, port = server.target.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=100) as connection:
            assert connection.recv(1) == b""
