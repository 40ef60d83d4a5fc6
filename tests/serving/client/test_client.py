from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from imgpipe.serving.client import (
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
    errors,
)


@pytest.fixture(scope="module")
def client(images):
    with Client(images) as client:
        yield client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_classify_bytes_and_paths_in_order(client, make_image, tmp_path):
    file = tmp_path / "ünïcode name.png"
    file.write_bytes(make_image(1, "PNG"))
    answers = client.classify([make_image(0), file, str(file)])
    assert [answer.version for answer in answers] == [7, 7, 7]
    assert answers[1] == answers[2]
    for answer in answers:
        assert answer.label in ("paper", "rock", "scissors")
        assert answer.top[0] == (answer.label, answer.probability)
        assert sum(score for _, score in answer.top) == pytest.approx(1.0, abs=1e-5)


def test_many_images_go_in_chunks(client, make_image):
    answers = client.classify([make_image(index) for index in range(70)])
    alone = [client.classify([make_image(index)])[0] for index in (0, 31, 32, 69)]
    assert len(answers) == 70
    for index, answer in zip((0, 31, 32, 69), alone, strict=True):
        assert answers[index].label == answer.label
        assert answers[index].probability == pytest.approx(answer.probability, rel=1e-5)


def test_no_images_no_answers(client):
    assert client.classify([]) == []


def test_the_bad_image_of_a_chunk_is_named(client, make_image, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(make_image()[:200])
    with pytest.raises(InvalidArgument, match=r"broken\.jpg: .*JPEG"):
        client.classify([make_image(), broken, make_image()])
    with pytest.raises(InvalidArgument, match="image 1: Input is empty"):
        client.classify([make_image(), b""])


def test_what_is_not_there_is_refused_before_sending(tmp_path):
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


def test_large_messages_both_ways(half):
    values = np.arange(3_000_000, dtype=np.float32)  # 12 MB: three times gRPC's default limit
    with Client(half, "half") as client:
        result = client.predict({"x": values}).outputs["y"]
    np.testing.assert_array_equal(result, values / 2 + 2)


def test_errors_are_typed_and_carry_exit_codes(half):
    x = {"x": np.float32([1])}
    with Client(half, "other") as client, pytest.raises(NotFound, match=r"Latest\(other\)") as e:
        client.predict(x)
    assert e.value.exit_code == 2
    with Client(half, "half", version=5) as client, pytest.raises(NotFound, match=r"\(half, 5\)"):
        client.predict(x)
    with Client(half, "half", version=123) as client:
        assert client.predict(x).version == 123
        with pytest.raises(FailedPrecondition, match="not found") as e:
            client.predict(x, "nope")
    assert e.value.exit_code == 2
    with (
        Client(half, "half", timeout=0.05) as client,
        pytest.raises(DeadlineExceeded, match=r"within 0\.05 s") as e,
    ):
        client.predict({"steps": np.int32(3000)}, "slow")
    assert e.value.exit_code == 5


def test_nobody_there():
    with Client(f"localhost:{free_port()}") as client:
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"No model server is available at .*Start one") as e:
            client.classify([b"x"])
        assert time.monotonic() - began < 5
        assert e.value.exit_code == 5
        with pytest.raises(DeadlineExceeded, match=r"not available after 0\.5 s"):
            client.wait_until_available(0.5)


def test_wait_until_a_server_comes_up(models, push, tmp_path):
    from imgpipe.serving.server import ModelServer

    port = free_port()
    push("half_plus_two", tmp_path, 5)
    client = Client(f"localhost:{port}", "half", wait_for_ready=True)
    with client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait_until_available, 30)
        time.sleep(0.3)  # nobody listens yet
        with ModelServer("half", tmp_path, port=port):
            assert waiting.result() == 5
            assert client.wait_until_available(30, version=5) == 5
            assert client.predict({"x": np.float32([2])}).outputs["y"].tolist() == [3.0]


def test_wait_says_why_a_version_failed(push, warm_up, tmp_path):
    from imgpipe.serving.server import ModelServer

    warm_up(push("unservable", tmp_path, 1), {"x": np.zeros((1, 4), np.float32)})
    words = r"Version 1 .* failed to load: Could not find variable"
    with (
        ModelServer("m", tmp_path) as server,
        Client(server.target, "m") as client,
        pytest.raises(Unavailable, match=words),
    ):
        client.wait_until_available(30)


def test_metadata_and_status(client):
    metadata = client.metadata()
    signature = metadata.signatures["serving_default"]
    assert (metadata.model, metadata.version) == ("imgpipe", 7)
    assert signature.inputs["image_bytes"].dtype == "string"
    assert signature.inputs["image_bytes"].shape == (None,)
    assert set(signature.outputs) == {"label", "classes", "probabilities"}
    (state,) = client.status()
    assert (state.version, state.state, state.error_code) == (7, "AVAILABLE", 0)


def test_a_closed_client_says_so(half):
    client = Client(half, "half")
    client.close()
    with pytest.raises(ServingError, match="is closed"):
        client.status()


def test_every_status_has_a_class():
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
