"""Limits of a running server for messages, queue and deadlines."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.serving.quick import ask, photograph, running
from tests.serving.test_image_header import png_bomb


@pytest.fixture(scope="module")
def narrow(models, tmp_path_factory):
    """Serve half_plus_two as `m` with one thread and a queue of four."""
    base = tmp_path_factory.mktemp("narrow")
    (base / "3").symlink_to(models("half_plus_two"), target_is_directory=True)
    few = {"grpc_max_threads": 1, "max_queued_requests": 4}
    with running(base, **few) as server:
        yield server


@pytest.fixture
def stub(narrow):
    """Return the official stub of `narrow`, whose signature `slow` has run once."""
    with grpc.insecure_channel(narrow.target) as channel:
        made = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        made.Predict(ask("slow", seconds=np.float32(0)), timeout=30)
        yield made


def outcome(stub, request, timeout=30.0) -> str:
    try:
        stub.Predict(request, timeout=timeout)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def test_a_decompression_bomb_is_refused_without_using_memory(images):
    good = ask(model="imgpipe", image_bytes=[photograph()])
    bomb = ask(model="imgpipe", image_bytes=[photograph(), png_bomb(12_000, 12_000)])
    with grpc.insecure_channel(images) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(good, timeout=30)
        process = psutil.Process()
        before = process.memory_info().rss
        for _ in range(20):
            with pytest.raises(grpc.RpcError, match=r"144\.0 million pixels") as error:
                stub.Predict(bomb, timeout=30)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert process.memory_info().rss - before < 64 << 20
        assert outcome(stub, good) == "OK"


def test_messages_of_very_many_values_are_refused_before_they_are_parsed(narrow):
    """Thirty million empty strings took 1.6 GB."""
    empty = predict_pb2.PredictRequest()
    empty.inputs["x"].dtype = 7
    empty.inputs["x"].string_val.extend([b""] * 120_000)
    shape = predict_pb2.PredictRequest()
    for _ in range(120_000):
        shape.inputs["x"].tensor_shape.dim.add()
    outputs = predict_pb2.PredictRequest(output_filter=[""] * 120_000)
    with grpc.insecure_channel(narrow.target) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for message in (empty, shape, outputs):
            with pytest.raises(grpc.RpcError, match="more than 100,000 values") as error:
                raw(message.SerializeToString(), timeout=30)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_packed_numbers_are_limited_before_they_are_parsed(half):
    """Sixty megabytes took .4 s to parse, in which nothing else ran."""
    floats = ask(model="half")
    floats.inputs["x"].dtype = 1
    floats.inputs["x"].float_val.extend(range(900_000))
    floats.inputs["x"].tensor_shape.dim.add().size = 900_000
    numbers = ask(model="half")
    numbers.inputs["x"].dtype = 3
    numbers.inputs["x"].int_val.extend([1] * (9 << 20))
    with grpc.insecure_channel(half) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError, match="more than 8 MiB of numbers in fields such as int"):
            raw(numbers.SerializeToString(), timeout=30)
        raw(floats.SerializeToString(), timeout=30)


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_refused_before_they_are_unpacked(narrow, stub, kind):
    with pytest.raises(grpc.RpcError, match=r"Compression algorithm .* is disabled") as error:
        stub.Predict(ask(x=np.zeros(3 << 20, np.float32)), timeout=30, compression=kind)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError, match="Received message larger than max"):
        # This is the client's own limit of 4 MiB: the server has answered.
        stub.Predict(ask(x=np.zeros(3 << 20, np.float32)), timeout=30)


def test_a_full_queue_refuses_and_health_still_answers(narrow, stub):
    slow = ask("slow", seconds=np.float32(0.25))
    with ThreadPoolExecutor(30) as pool, grpc.insecure_channel(narrow.target) as channel:
        found = [pool.submit(outcome, stub, slow) for _ in range(30)]
        time.sleep(0.2)
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
        assert not all(future.done() for future in found)
        codes = Counter(future.result() for future in found)
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert 5 <= codes["OK"] <= 8
    assert outcome(stub, slow) == "OK"


def test_requests_are_answered_where_no_thread_can_be_started(narrow, stub, monkeypatch):
    """They got 500, and the log 50 kB of tracebacks."""
    with monkeypatch.context() as machine:

        def refuse(thread) -> None:
            raise RuntimeError("can't start new thread")

        machine.setattr(threading.Thread, "start", refuse)
        found = [stub.Predict(ask(x=np.float32([1])), timeout=30) for _ in range(3)]
    assert [list(answer.outputs["y"].float_val) for answer in found] == [[2.5]] * 3


def test_a_cancelled_request_in_the_queue_does_not_run(narrow, stub):
    seen = []
    narrow.calls.observers.append(seen.append)
    running = stub.Predict.future(ask("slow", seconds=np.float32(0.9)), timeout=30)
    time.sleep(0.1)
    waiting = [stub.Predict.future(ask(x=np.float32([1])), timeout=30) for _ in range(4)]
    time.sleep(0.1)
    for future in waiting:
        future.cancel()
    running.result()
    assert outcome(stub, ask(x=np.float32([1]))) == "OK"
    assert sum(call.signature == "serving_default" for call in seen) == 1
