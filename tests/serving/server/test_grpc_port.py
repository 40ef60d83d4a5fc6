"""Connections of the gRPC port: streams, pings and health."""

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from imgpipe.serving.client import Client
from imgpipe.serving.server import calls, grpc_port, ports
from imgpipe.serving.server.grpc_port import HEALTH_SERVICES, MAX_STREAMS
from imgpipe.serving.server.server import ModelServer
from tests.serving.quick import ask, eventually, quick, running

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # first bytes of a connection of HTTP/2
DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7  # kinds of frames
END_STREAM, END_HEADERS = 1, 4  # flags of frames


@asynccontextmanager
async def half_open(target: str, count: int):
    """Open `count` streams on one connection that send their headers but never a request."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        predict = "/tensorflow.serving.PredictionService/Predict"
        calls = [channel.stream_unary(predict)() for _ in range(count)]
        await channel.channel_ready()
        await asyncio.sleep(0.5)
        yield calls
        for call in calls:
            call.cancel()


def answer(target: str) -> list[float]:
    """Return the outputs for x = [1, 2] on a new connection."""
    with Client(target, "m") as client:
        return client.predict({"x": np.float32([1, 2])}).outputs["y"].tolist()


def health(target: str, service: str = "") -> int:
    """Return the serving status of the gRPC health service on a new connection."""
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status


def client_ports(server_port: int) -> set[int]:
    """Return the local ports of this process's connections to a server."""
    connections = psutil.Process().net_connections("tcp")
    return {
        connection.laddr.port
        for connection in connections
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr.port == server_port
    }


def frame(kind: int, payload: bytes = b"", flags: int = 0, *, stream: int = 0) -> bytes:
    """Return a frame of HTTP/2, of stream 0 for the whole connection (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4) + payload


def kinds_of_frames(connection: socket.socket) -> Iterator[int]:
    with connection.makefile("rb") as arriving:
        while header := arriving.read(9):
            arriving.read(int.from_bytes(header[:3], "big"))
            yield header[3]


def test_idle_connections_end_and_clients_connect_again(push, tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "IDLE_S", 1)
    push("half_plus_two", tmp_path, 3)
    with (
        running(tmp_path) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as silent,
    ):
        silent.sendall(PREFACE + frame(SETTINGS))
        with Client(server.target, "m") as client:
            before = client_ports(server.port)
            assert client.predict({"x": np.float32([1])}).outputs["y"].tolist() == [2.5]
            [of_the_client] = client_ports(server.port) - before
            assert GOAWAY in kinds_of_frames(silent)
            # gRPC's round_robin policy opens the next connection by itself.
            eventually(lambda: of_the_client not in client_ports(server.port))
            assert client.predict({"x": np.float32([2])}).outputs["y"].tolist() == [3.0]


def test_streams_without_a_request_block_neither_other_clients_nor_the_stop(
    push, tmp_path, monkeypatch
):
    push("half_plus_two", tmp_path, 3)
    monkeypatch.setattr(calls, "SILENT_S", 1.0)  # after which they give their room to others

    async def scenario(server: ModelServer) -> None:
        async with half_open(server.target, MAX_STREAMS + 600) as streams:
            assert await asyncio.to_thread(answer, server.target) == [2.5, 3.0]
            assert await asyncio.to_thread(health, server.target) == 1
            # The client opened some streams before it learned the limit; the surplus is refused.
            assert sum(not stream.done() for stream in streams) > MAX_STREAMS // 2
            assert await asyncio.wait_for(asyncio.to_thread(server.stop, 200), 100) is True

    with running(tmp_path) as server:
        asyncio.run(scenario(server))


def test_all_requests_of_one_connection_are_answered_however_many_there_are(half):
    request = ask(model="half", x=np.float32([1]))
    with grpc.insecure_channel(half, [("grpc.enable_retries", 0)]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(request, timeout=60)
        running = [stub.Predict.future(request, timeout=60) for _ in range(5 * MAX_STREAMS)]
        assert {future.result().model_spec.version.value for future in running} == {123}


def test_a_client_may_ping_while_it_waits_for_no_answer(push, tmp_path, monkeypatch):
    """As clients in Go do with PermitWithoutStream; gRPC's default allows it every two hours."""
    push("half_plus_two", tmp_path, 3)
    monkeypatch.setattr(grpc_port, "PING_MS", 50)
    with (
        running(tmp_path) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
    ):
        connection.sendall(PREFACE + frame(SETTINGS))
        for _ in range(8):
            time.sleep(0.1)
            connection.sendall(frame(PING, bytes(8)))
        kinds = [kind for kind, _ in zip(kinds_of_frames(connection), range(9), strict=False)]
    assert kinds.count(PING) >= 5 and GOAWAY not in kinds


def ask_without_a_name(target: str) -> None:
    """Ask for a method whose name is no UTF-8, which ends gRPC's server."""

    def header(name: bytes, value: bytes) -> bytes:
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    headers = (
        header(b":method", b"POST"),
        header(b":scheme", b"http"),
        header(b":path", b"/\xff\xfe"),
        header(b":authority", b"a"),
        header(b"te", b"trailers"),
        header(b"content-type", b"application/grpc"),
    )
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(PREFACE + frame(SETTINGS))
        connection.sendall(frame(HEADERS, b"".join(headers), END_HEADERS, stream=1))
        connection.sendall(frame(DATA, bytes(5), END_STREAM, stream=1))
        assert connection.recv(4096)
        time.sleep(0.5)  # until it has been read


def test_a_method_without_a_readable_name_ends_no_request_of_others(half):
    """Without another attempt, and while a request runs, too; each time a new server begins."""
    slow = {"seconds": np.float32(2)}
    with (
        Client(half, "half", attempts=1) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        for _ in range(3):
            running = [pool.submit(client.predict, slow, "slow") for _ in range(4)]
            time.sleep(0.5)  # until they run
            ask_without_a_name(half)
            with Client(half, "half") as other:
                found = other.predict({"x": np.float32([1, 2])})
            assert found.outputs["y"].tolist() == [2.5, 3.0]
            assert all(request.result().outputs["done"] >= 0 for request in running)


def test_a_server_stops_while_one_that_has_ended_still_answers(push, tmp_path):
    push("half_plus_two", tmp_path, 3)
    with (
        running(tmp_path) as server,
        Client(server.target, "m", attempts=1) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        answered = pool.submit(client.predict, {"seconds": np.float32(2)}, "slow")
        time.sleep(0.5)
        ask_without_a_name(server.target)
        assert server.stop(30) is True
        assert answered.result().outputs["done"] >= 0


def test_health_follows_the_models(push, tmp_path):
    with ModelServer("m", tmp_path / "new", quick()) as server:
        assert {health(server.target, service) for service in HEALTH_SERVICES} == {2}
        push("half_plus_two", tmp_path / "new", 1)
        server.wait_until_available(30)
        assert {health(server.target, service) for service in HEALTH_SERVICES} == {1}
        with pytest.raises(grpc.RpcError, match=r"StatusCode\.NOT_FOUND"):
            health(server.target, "nope")
