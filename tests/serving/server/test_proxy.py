"""The configuration of `how-to/proxy.md`, with the real nginx in front of a real server."""

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from imgpipe.serving.client import Client, ServingError, Tls
from tests.conftest import REPOSITORY
from tests.document_blocks import blocks
from tests.ports import free_port
from tests.serving.quick import running

pytestmark = pytest.mark.slow
TOKEN = {"Authorization": "Bearer FIRST-TOKEN"}
BODY = b'{"instances": [1.0, 2.0]}'


@dataclass(frozen=True)
class Proxy:
    """A running nginx: its ports, and a context that knows its certificate."""

    rest: int
    grpc: int
    context: ssl.SSLContext

    def ask(self, body: bytes = BODY, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection("localhost", self.rest, context=self.context)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/models/m:predict", body, headers or TOKEN)
            answer = connection.getresponse()
            return answer.status, answer.read()


def configuration(folder: Path, certificate: Path, key: Path, ports: dict[str, int]) -> str:
    """Return the block of the page, for other ports and files, and without root."""
    [block] = [b for b in blocks(REPOSITORY / "docs/how-to/proxy.md") if b.language == "nginx"]
    text = block.text
    for before, after in (
        ("/etc/nginx/model.example.pem", str(certificate)),
        ("/etc/nginx/model.example.key", str(key)),
        ("listen 443 ", f"listen 127.0.0.1:{ports['rest']} "),
        ("listen 8443 ", f"listen 127.0.0.1:{ports['grpc']} "),
        ("127.0.0.1:8501", f"127.0.0.1:{ports['server_rest']}"),
        ("127.0.0.1:8500", f"127.0.0.1:{ports['server_grpc']}"),
        ("model.example", "localhost"),
        ("client_body_timeout 10s", "client_body_timeout 1s"),
    ):
        assert before in text, before
        text = text.replace(before, after)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    head = f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
    return head + text.replace("http {\n", f"http {{\n  access_log off;\n{places}", 1)


@pytest.fixture
def proxy(push, tmp_path, certificates):
    """Serve half_plus_two as `m` behind nginx."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("needs nginx (apt-get install nginx)")
    push("half_plus_two", tmp_path / "m", 1)
    with running(tmp_path / "m", rest_api_port=-1, allowed_hosts=["model.example"]) as server:
        ports = {"rest": free_port(), "grpc": free_port()}
        ports |= {"server_rest": server.rest_port, "server_grpc": server.port}
        file = tmp_path / "nginx.conf"
        file.write_text(configuration(tmp_path, *certificates.server, ports))
        with subprocess.Popen([nginx, "-p", tmp_path, "-c", file]) as process:
            try:
                wait_for(ports["rest"])
                context = ssl.create_default_context(cafile=certificates.ca)
                yield Proxy(ports["rest"], ports["grpc"], context)
            finally:
                process.terminate()


def wait_for(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        assert time.monotonic() < end
        time.sleep(0.05)


def test_tokens_are_needed_over_both_protocols(proxy, certificates):
    assert proxy.ask() == (200, b'{"predictions":[2.5,3.0]}')
    assert proxy.ask(headers={"Authorization": "Bearer WRONG"})[0] == 401
    tls = Tls(ca=certificates.ca)
    for headers, answers in (({"authorization": "Bearer SECOND-TOKEN"}, True), ({}, False)):
        with Client(f"localhost:{proxy.grpc}", "m", tls=tls, headers=headers) as client:
            if answers:
                assert client.predict({"x": [1.0]}).outputs["y"].tolist() == [2.5]
            else:
                with pytest.raises(ServingError, match=r"401|Unauthorized"):
                    client.predict({"x": [1.0]})


def test_bodies_are_limited_in_size_and_time(proxy):
    assert proxy.ask(b" " * (65 << 20))[0] == 413
    head = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
    token = b"Authorization: Bearer FIRST-TOKEN\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", proxy.rest), timeout=20) as plain,
        proxy.context.wrap_socket(plain, server_hostname="localhost") as slow,
    ):
        slow.sendall(head + token + b"{")
        assert slow.recv(100) == b"" or b"408" in slow.recv(100)
    assert proxy.ask()[0] == 200


def test_an_address_that_asks_too_often_is_refused(proxy):
    statuses = [proxy.ask()[0] for _ in range(80)]
    assert statuses[0] == 200 and 429 in statuses
