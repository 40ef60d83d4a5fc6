"""Behaviour that does not differ between the clients; see also ``test_both_clients``."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from imgpipe.serving.client import Client, InvalidArgument, Unavailable, errors
from tests.ports import free_port


@pytest.fixture(scope="module")
def client(images):
    """Return a blocking client of the image classifier."""
    with Client(images) as client:
        yield client


def test_the_error_names_the_invalid_image_of_a_chunk(client, make_image, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(make_image()[:200])
    with pytest.raises(InvalidArgument, match=r"broken\.jpg: .*JPEG"):
        client.classify([make_image(), broken, make_image()])
    with pytest.raises(InvalidArgument, match="image 1: Input is empty"):
        client.classify([make_image(), b""])


def test_invalid_images_and_options_are_refused_before_sending(tmp_path):
    client = Client("localhost:1")
    with pytest.raises(InvalidArgument, match=r"nope\.jpg: there is no such file"):
        client.classify([tmp_path / "nope.jpg"])
    with pytest.raises(InvalidArgument, match="cannot be read as an image file"):
        client.classify([tmp_path])
    with pytest.raises(InvalidArgument, match="expects a list of images"):
        client.classify("cat.jpg")
    with pytest.raises(InvalidArgument, match="Received: int at index 0"):
        client.classify([3])
    with pytest.raises(InvalidArgument, match="above 0"):
        Client("localhost:1", timeout=0)


def test_large_messages_are_sent_and_received(half):
    values = np.arange(3_000_000, dtype=np.float32)  # 12 MB: three times gRPC's default limit
    with Client(half, "half") as client:
        result = client.predict({"x": values}).outputs["y"]
    np.testing.assert_array_equal(result, values / 2 + 2)


def test_wait_until_a_server_comes_up(models, push, tmp_path):
    from imgpipe.serving.server import ModelServer

    port = free_port()
    push("half_plus_two", tmp_path, 5)
    client = Client(f"localhost:{port}", "half", wait_for_ready=True)
    with client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait_until_available, 30)
        time.sleep(0.3)  # no server is listening yet
        with ModelServer("half", tmp_path, port=port):
            assert waiting.result() == 5
            assert client.wait_until_available(30, version=5) == 5
            assert client.predict({"x": np.float32([2])}).outputs["y"].tolist() == [3.0]


def test_waiting_reports_why_a_version_failed_to_load(push, warm_up, tmp_path):
    from imgpipe.serving.server import ModelServer

    warm_up(push("unservable", tmp_path, 1), {"x": np.zeros((1, 4), np.float32)})
    words = r"Version 1 .* failed to load: Could not find variable"
    with (
        ModelServer("m", tmp_path) as server,
        Client(server.target, "m") as client,
        pytest.raises(Unavailable, match=words),
    ):
        client.wait_until_available(30)


def test_every_grpc_status_code_has_an_error_class():
    class Failed(grpc.RpcError):
        def __init__(self, code):
            self._code = code

        def code(self):
            return self._code

        def details(self):
            return "words of the server"

    for code in grpc.StatusCode:
        error = errors.from_rpc(Failed(code), "host:1", 1.0)
        assert "words of the server" in str(error)
        assert error.exit_code in (1, 2, 5)
    assert errors.from_rpc(Failed(grpc.StatusCode.INTERNAL), "host:1", 1.0).exit_code == 1
