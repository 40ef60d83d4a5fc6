"""Limits of a running server for images, messages, queue and deadlines."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.requests import limits
from imgpipe.serving.server.requests.calls import Call
from imgpipe.serving.server.requests.predict import Handle
from imgpipe.serving.server.status import Code as StatusCode
from imgpipe.serving.server.status import StatusError
from tests.serving.quick import quick
from tests.serving.test_image_header import png_bomb

Code = grpc.StatusCode


@pytest.fixture
def serve(push, tmp_path):
    """Return a function that serves a ready model with settings; it returns server and stub."""
    open_ones = []

    def start(model: str, **changes):
        push(model, tmp_path / model, 3)
        server = ModelServer("m", tmp_path / model, quick(**changes))
        server.start()
        channel = grpc.insecure_channel(server.target)
        open_ones.append((server, channel))
        server.wait_until_available(60)
        return server, prediction_service_pb2_grpc.PredictionServiceStub(channel)

    yield start
    for server, channel in open_ones:
        channel.close()
        server.stop(10)


def ask(signature: str = "", **inputs):
    """Return a PredictRequest with the given inputs."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def outcome(stub, request, timeout=30.0) -> str:
    """Return the name of the gRPC status code of a prediction."""
    try:
        stub.Predict(request, timeout=timeout)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def test_a_decompression_bomb_is_refused_without_using_memory(serve, make_image):
    _, stub = serve("images")
    stub.Predict(ask(image_bytes=[make_image()]), timeout=30)
    bomb = ask(image_bytes=[make_image(), png_bomb(12_000, 12_000)])
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(20):
        with pytest.raises(grpc.RpcError, match=r"144\.0 million pixels") as error:
            stub.Predict(bomb, timeout=30)
        assert error.value.code() is Code.INVALID_ARGUMENT
    many = ask(image_bytes=[png_bomb(7000, 7000)] * 60)
    with pytest.raises(grpc.RpcError, match="2,940 million pixels together; 2,000 million are"):
        stub.Predict(many, timeout=30)
    assert process.memory_info().rss - before < 64 << 20
    assert outcome(stub, ask(image_bytes=[make_image()])) == "OK"


@pytest.mark.parametrize("name", [b"zz", b"\xff\xfe"], ids=["UTF-8", "other bytes"])
@pytest.mark.parametrize("inside", [False, True])
def test_images_inside_examples_have_the_same_limit(inside, name):
    """Protobuf refuses a feature whose name is not UTF-8, and a graph accepts it."""
    data = png_bomb(12_000, 12_000)
    if inside:
        example = tf.train.Example()
        example.features.feature["image_bytes"].bytes_list.value.append(data)
        example.features.feature["zz"].bytes_list.value.append(b"door")
        data = example.SerializeToString().replace(b"zz", name)
    alias, value = "examples" if inside else "image_bytes", np.array([b"", data], object)
    with pytest.raises(StatusError, match=rf"An image in {alias} has 144\.0 million pixels"):
        limits.row_pixels(alias, value, 50_000_000)
    assert limits.row_pixels(alias, value, 200_000_000) == [0, 144_000_000]
    assert limits.row_pixels("names", value, 50_000_000) == [0, 0]


class Counted:
    """A runtime of a model of imgpipe, which notes how many rows it runs at once."""

    by_row = True

    def __init__(self, then=lambda: None) -> None:
        signature = tf.compat.v1.MetaGraphDef().signature_def["serving_default"]
        signature.inputs["image_bytes"].name, signature.inputs["image_bytes"].dtype = "x", 7
        signature.outputs["y"].name = "y"
        self.signatures, self.rows, self._then = {"serving_default": signature}, [], then

    def run(self, feeds, values, fetches):
        self.rows.append(len(values[0]))
        self._then()
        return [np.arange(len(values[0]))]


def test_few_rows_and_few_pixels_run_at_once():
    runtime, small = Counted(), png_bomb(10, 10)
    handle = Handle("m", 1, runtime, max_pixels=100)
    assert len(handle.predict({"image_bytes": np.array([b"x"] * 100, object)}).outputs["y"]) == 100
    assert runtime.rows == [64, 36]
    handle.predict({"image_bytes": np.array([small] * 3, object)})
    assert runtime.rows[2:] == [1, 1, 1], "as many pixels at once as one image may have"
    with pytest.raises(StatusError, match="16,384 are allowed"):
        handle.predict({"image_bytes": np.array([b"x"] * 20_000, object)})


def test_between_two_slices_a_request_ends_if_nobody_waits():
    waiting = [True]
    runtime = Counted(then=lambda: waiting.clear())
    call = Call("Predict", "GRPC", is_active=lambda: bool(waiting))
    rows = {"image_bytes": np.array([b"x"] * 1000, object)}
    with pytest.raises(StatusError, match="Cancelled") as error:
        Handle("m", 1, runtime).predict(rows, call=call)
    assert error.value.code == StatusCode.CANCELLED and runtime.rows == [64]


def test_messages_above_the_limit_are_refused(serve):
    _, stub = serve("half_plus_two", max_message_bytes=10_000)
    assert outcome(stub, ask(x=np.zeros(1000, np.float32))) == "OK"
    assert outcome(stub, ask(x=np.zeros(5000, np.float32))) == "RESOURCE_EXHAUSTED"


def test_the_limit_applies_to_decompressed_messages(serve):
    """The message has 0.2 MB when it is compressed, and 12 MB are accepted without compression."""
    server, stub = serve("half_plus_two")
    with grpc.insecure_channel(server.target) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError, match="Decompressed message larger than max") as error:
            raw(bytes(200 << 20), timeout=60, compression=grpc.Compression.Gzip)
    assert error.value.code() is Code.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError, match="Received message larger than max"):
        # This is the client's own limit of 4 MiB: the server has answered.
        stub.Predict(ask(x=np.zeros(3 << 20, np.float32)), timeout=30)


def test_a_full_queue_refuses_and_health_still_answers(serve):
    server, stub = serve("half_plus_two", grpc_max_threads=1, max_queued_requests=4)
    stub.Predict(ask("slow", seconds=np.float32(0)), timeout=30)
    slow = ask("slow", seconds=np.float32(0.25))
    with ThreadPoolExecutor(30) as pool, grpc.insecure_channel(server.target) as channel:
        found = [pool.submit(outcome, stub, slow) for _ in range(30)]
        time.sleep(0.2)
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
        assert not all(future.done() for future in found)
        codes = Counter(future.result() for future in found)
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert 5 <= codes["OK"] <= 8
    assert outcome(stub, slow) == "OK"


def test_the_total_size_of_requests_in_flight_is_limited(serve):
    """Each request and their number are within the limits, but their total size is not."""
    _, stub = serve("half_plus_two", grpc_max_threads=1, max_bytes_in_flight=2 << 20)
    stub.Predict(ask("slow", seconds=np.float32(0)), timeout=30)
    large = ask(x=np.zeros(1 << 17, np.float32))
    with ThreadPoolExecutor(21) as pool:
        slow = pool.submit(outcome, stub, ask("slow", seconds=np.float32(1.8)))
        time.sleep(0.2)
        found = [pool.submit(outcome, stub, large) for _ in range(20)]
        codes = Counter(future.result() for future in found)
        assert slow.result() == "OK"
    assert codes == {"OK": 3, "RESOURCE_EXHAUSTED": 17}
    assert outcome(stub, ask(x=np.zeros(1 << 19, np.float32))) == "OK", "alone, it may be larger"


def test_a_cancelled_request_in_the_queue_does_not_run(serve):
    server, stub = serve("half_plus_two", grpc_max_threads=1)
    seen = []
    server.calls.observers.append(seen.append)
    stub.Predict(ask("slow", seconds=np.float32(0)), timeout=30)
    running = stub.Predict.future(ask("slow", seconds=np.float32(1.8)), timeout=30)
    time.sleep(0.1)
    waiting = [stub.Predict.future(ask(x=np.float32([1])), timeout=30) for _ in range(20)]
    time.sleep(0.1)
    for future in waiting:
        future.cancel()
    running.result()
    assert outcome(stub, ask(x=np.float32([1]))) == "OK"
    assert sum(call.signature == "serving_default" for call in seen) == 1


def test_an_observer_that_fails_does_not_fail_the_request(serve, caplog):
    server, stub = serve("half_plus_two")

    def broken(call):
        raise OSError("disk full")

    server.calls.observers.append(broken)
    assert outcome(stub, ask(x=np.float32([1]))) == "OK"
    with caplog.at_level(logging.ERROR):
        assert "observer of requests" in caplog.text


def test_stopped_servers_leave_no_threads(push, tmp_path):
    push("half_plus_two", tmp_path, 1)
    counts = []
    for _ in range(4):
        with ModelServer("m", tmp_path, quick()) as server:
            server.wait_until_available(30)
        time.sleep(0.2)
        counts.append(threading.active_count())
    assert counts[-1] <= counts[0]
