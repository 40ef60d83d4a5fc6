"""Options of a connection: retries, deadlines, several servers and TLS."""

import contextlib
import threading
import time

import grpc
import numpy as np
import pytest

from imgpipe.serving.client import (
    Client,
    DeadlineExceeded,
    InvalidArgument,
    ServingError,
    Tls,
    Unavailable,
)
from tests.serving.client.conftest import ask

STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


def failing(times: int, code: grpc.StatusCode):
    """Return a handler that aborts `times` calls with `code` and then answers with b""."""
    lock, count = threading.Lock(), [0]

    def answer(method, request, context):
        with lock:
            count[0] += 1
            fail = count[0] <= times
        if fail:
            context.abort(code, "not now")
        return b""

    return answer


def test_unavailable_is_retried_within_one_deadline(scripted):
    target, seen = scripted(failing(4, grpc.StatusCode.UNAVAILABLE))
    assert ask(target, "status", timeout=4.0) == []
    assert [method for method, _ in seen.seen] == [STATUS] * 5
    assert len({request for _, request in seen.seen}) == 1
    # gRPC rounds the timeout that it sends, by some per cent.
    assert seen.left[0] < 4.1
    assert seen.left[-1] < seen.left[0] - 0.5, "the last attempt has what the pauses left over"


@pytest.mark.parametrize(
    ("code", "options", "attempts"),
    [
        ("UNAVAILABLE", {}, 5),
        ("UNAVAILABLE", {"attempts": 1}, 1),
        ("CANCELLED", {}, 5),  # as by a server that stops
        ("INVALID_ARGUMENT", {}, 1),
        ("RESOURCE_EXHAUSTED", {}, 1),
    ],
)
def test_the_client_gives_up_after_its_attempts(scripted, code, options, attempts):
    # By default gRPC would make a single attempt for a request of more than 256 KiB.
    target, seen = scripted(failing(100, grpc.StatusCode[code]))
    with pytest.raises(ServingError, match="not now") as error:
        ask(target, "predict", {"x": np.zeros(1 << 18, np.float32)}, client=options)
    assert error.value.code == code and len(seen.seen) == attempts


def test_retries_end_with_the_deadline(scripted):
    target, seen = scripted(failing(100, grpc.StatusCode.UNAVAILABLE))
    with pytest.raises((Unavailable, DeadlineExceeded), match=r"within 0\.25 s|No model server"):
        ask(target, "status", timeout=0.25)
    assert len(seen.seen) < 5


def test_calls_alternate_between_servers_and_skip_a_dead_one(scripted):
    (first, one), (second, two) = scripted(), scripted()
    target = f"ipv4:{first},{second}"
    with Client(target, wait_for_ready=True) as client:
        end = time.monotonic() + 60  # the second connection may be ready later than the first
        while min(len(one.seen), len(two.seen)) < 10:
            assert time.monotonic() < end, "only one of the servers is asked"
            client.status()
    with Client(f"ipv4:{first},127.0.0.1:9", wait_for_ready=True) as client:
        for _ in range(10):
            client.status()


def test_tls_and_mutual_tls(scripted, certificates):
    ca = certificates.ca
    pair = [(certificates.server[1].read_bytes(), certificates.server[0].read_bytes())]
    plain, _ = scripted(credentials=grpc.ssl_server_credentials(pair))
    verified = grpc.ssl_server_credentials(pair, ca.read_bytes(), require_client_auth=True)
    mutual, _ = scripted(credentials=verified)
    for target, tls, answers in (
        (plain, Tls(ca), True),
        (plain, Tls(ca.read_bytes(), server_name="localhost"), True),
        (plain, Tls(certificates.stranger), False),
        (plain, None, False),
        (plain, Tls(ca, server_name="other"), False),
        (mutual, Tls(ca, *certificates.client), True),
        (mutual, Tls(ca), False),
    ):
        words = "If the server has TLS, name the authority"
        refused = contextlib.nullcontext() if answers else pytest.raises(Unavailable, match=words)
        with refused:
            ask(target, "status", client={"tls": tls, "attempts": 1, "timeout": 5.0})


def test_invalid_settings_are_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="certificate and its key together"):
        Tls(certificate="a.pem")
    with pytest.raises(InvalidArgument, match=r"Cannot read .*no\.pem: No such file"):
        Tls(ca=tmp_path / "no.pem").credentials()
    for attempts in (0, 6):
        with pytest.raises(InvalidArgument, match=r"1 \(no retry\) to 5"):
            Client("localhost:1", attempts=attempts)
    for headers, words in (
        ({"a b": "c"}, "A header needs a name of letters"),
        ({"a": "line\r\nInjected: 1"}, "printable ASCII"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            Client("localhost:1", headers=headers)
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(InvalidArgument, match=r"text\.pem holds no CERTIFICATE as PEM"):
        Tls(ca=tmp_path / "text.pem").credentials()
    with pytest.raises(InvalidArgument, match="name of the model must not be empty"):
        Client("localhost:1", model="")
    assert "SECRET" not in repr(Tls(certificate=b"c", key=b"SECRET"))


@pytest.mark.parametrize(
    "target",
    [
        *("http://localhost:8501", "localhost", "127.0.0.1", "[::1]", "localhost:", "localhost:0"),
        *("localhost:99999", "localhost:8500/", "localhost:8501/v1/models/imgpipe", "localhost:x"),
        *("dns:///localhost", "ipv4:127.0.0.1:8500,127.0.0.2", "ipv6:[::1]", "::1", ""),
    ],
)
def test_an_address_without_a_grpc_port_is_refused_before_a_call(target):
    with pytest.raises(InvalidArgument, match=r"Expected: HOST:PORT .* such as localhost:8500"):
        Client(target)


def test_addresses_as_grpc_writes_them_are_taken(tmp_path):
    for target in (
        *("localhost:8500", "[::1]:8500", "dns:///a.example:8500", "dns://8.8.8.8/a:8500"),
        *("ipv4:127.0.0.1:8500,127.0.0.2:8500", "ipv6:[::1]:8500", f"unix:{tmp_path}/socket"),
    ):
        Client(target).close()
    Client("a.example", tls=Tls()).close()  # the port of HTTPS, as at a gateway


def test_headers_become_metadata_and_host_the_authority(scripted):
    sent: dict[str, str] = {}

    def answer(method, request, context):
        sent.update(context.invocation_metadata())
        return b""

    target, _ = scripted(answer)
    headers = {"Authorization": "Bearer secret", "Host": "model.example", "X-Tenant": "a b"}
    ask(target, "status", client={"headers": headers})
    assert (sent["authorization"], sent["x-tenant"]) == ("Bearer secret", "a b")
    assert "host" not in sent
