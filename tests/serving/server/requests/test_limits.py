"""Limits of a running server for images, messages, queue and deadlines; and its logs."""

from __future__ import annotations

import json
import logging
import shutil
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
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.monitoring import request_log
from imgpipe.serving.server.monitoring.request_log import RequestLogOptions, RequestLogs
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.services import ServiceOptions
from imgpipe.serving.server.versions.config import ModelConfig, RequestLogConfig
from tests.serving.test_image_header import png_bomb

Code = grpc.StatusCode


@pytest.fixture
def serve(push, tmp_path):
    """Return a function that serves a ready model with options; it returns server and stub."""
    open_ones = []

    def start(model: str, **options):
        push(model, tmp_path / model, 3)
        log = options.pop("log", None)
        config = ModelConfig("m", tmp_path / model, request_log=log)
        server = ModelServer(models=[config], options=ServerOptions(**options))
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
    assert process.memory_info().rss - before < 64 << 20
    assert outcome(stub, ask(image_bytes=[make_image()])) == "OK"


def test_messages_above_the_limit_are_refused(serve):
    _, stub = serve("half_plus_two", max_message_bytes=10_000)
    assert outcome(stub, ask(x=np.zeros(1000, np.float32))) == "OK"
    assert outcome(stub, ask(x=np.zeros(5000, np.float32))) == "RESOURCE_EXHAUSTED"


def test_the_limit_applies_to_decompressed_messages(serve):
    """The message has 0.2 MB when it is compressed.

    Without a limit the server would hold all of the decompressed message.
    """
    server, stub = serve("half_plus_two")
    with grpc.insecure_channel(server.target) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError, match="Decompressed message larger than max") as error:
            raw(bytes(200 << 20), timeout=60, compression=grpc.Compression.Gzip)
    assert error.value.code() is Code.RESOURCE_EXHAUSTED
    assert outcome(stub, ask(x=np.zeros(5000, np.float32))) == "OK"


def test_messages_of_many_megabytes_are_accepted(serve):
    _, stub = serve("half_plus_two", services=ServiceOptions(as_tensor_content=True))
    request = ask(x=np.zeros(3 << 20, np.float32))  # 12 MiB; the default limit of gRPC is 4 MiB
    with pytest.raises(grpc.RpcError, match="larger than max"):
        stub.Predict(request, timeout=30)  # the client's own default limit: the server has answered
    del request.inputs["x"].tensor_shape.dim[:]
    assert outcome(stub, request) == "INVALID_ARGUMENT"


def test_outputs_are_sent_as_tensor_content_if_the_option_is_set(serve):
    _, stub = serve("half_plus_two", services=ServiceOptions(as_tensor_content=True))
    reply = stub.Predict(ask(x=np.float32([1, 2])), timeout=30)
    assert not reply.outputs["y"].float_val
    assert tf.make_ndarray(reply.outputs["y"]).tolist() == [2.5, 3.0]


def test_the_graph_stops_at_the_deadline(serve):
    """The run itself ends, as with enforce_session_run_timeout of TensorFlow Serving."""
    server, stub = serve("half_plus_two")
    stub.Predict(ask("slow", seconds=np.float32(0)), timeout=30)
    assert outcome(stub, ask("slow", seconds=np.float32(60)), 0.3) == "DEADLINE_EXCEEDED"
    end = time.monotonic() + 60
    while server.core.busy():
        assert time.monotonic() < end, "the graph still runs"
        time.sleep(0.01)


def test_a_full_queue_refuses_and_health_still_answers(serve):
    server, stub = serve("half_plus_two", max_workers=1, max_waiting=4)
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
    server, stub = serve("half_plus_two", max_workers=1, max_bytes_in_flight=2 << 20)
    stub.Predict(ask("slow", seconds=np.float32(0)), timeout=30)
    large = ask(x=np.zeros(1 << 17, np.float32))
    with ThreadPoolExecutor(21) as pool:
        slow = pool.submit(outcome, stub, ask("slow", seconds=np.float32(1.8)))
        time.sleep(0.2)
        found = [pool.submit(outcome, stub, large) for _ in range(20)]
        codes = Counter(future.result() for future in found)
        assert slow.result() == "OK"
    assert codes == {"OK": 3, "RESOURCE_EXHAUSTED": 17}
    assert outcome(stub, large) == "OK"
    blocked = ask("slow", seconds=np.float32(0.3)).SerializeToString()
    with grpc.insecure_channel(server.target) as channel:
        running = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        waiting = running.future(blocked, timeout=30)
        while not server.core.busy():
            time.sleep(0.01)
        with pytest.raises(grpc.RpcError, match="would exceed the limit of 2,097,152") as error:
            stub.Predict(ask(x=np.zeros(1 << 19, np.float32)), timeout=30)
        waiting.result()
    assert error.value.code() is Code.RESOURCE_EXHAUSTED
    assert outcome(stub, ask(x=np.zeros(1 << 19, np.float32))) == "OK", "alone, it may be larger"


def test_a_cancelled_request_in_the_queue_does_not_run(serve):
    server, stub = serve("half_plus_two", max_workers=1)
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


def test_the_access_log_has_a_line_for_each_request(serve, tmp_path):
    file = tmp_path / "access.jsonl"
    _, stub = serve("half_plus_two", access_log=str(file))
    assert outcome(stub, ask(x=np.float32([1, 2]))) == "OK"
    assert outcome(stub, ask("nope", x=np.float32([1]))) == "FAILED_PRECONDITION"
    end = time.monotonic() + 5
    while len(lines := file.read_text().splitlines()) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    good, bad = map(json.loads, lines)
    assert good["peer"].startswith("ipv4:127.0.0.1:") and good["time"].endswith("Z")
    expected = {
        "method": "Predict",
        "entrypoint": "GRPC",
        "model": "m",
        "version": 3,
        "signature": "serving_default",
        "rows": 2,
        "status": "OK",
    }
    assert expected.items() <= good.items() and "message" not in good
    assert good["ms"] >= good["model_ms"] > 0 and good["request_bytes"] > 0
    assert bad["status"] == "FAILED_PRECONDITION"
    assert bad["message"] == 'Serving signature key "nope" not found.'


def test_an_observer_that_fails_does_not_fail_the_request(serve, caplog):
    server, stub = serve("half_plus_two")

    def broken(call):
        raise OSError("disk full")

    server.calls.observers.append(broken)
    assert outcome(stub, ask(x=np.float32([1]))) == "OK"
    with caplog.at_level(logging.ERROR):
        assert "observer of requests" in caplog.text


def records(folder) -> list:
    """Return all PredictionLogs of the TFRecord files of a folder."""
    found = []
    for path in sorted(folder.glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            found.append(prediction_log_pb2.PredictionLog.FromString(record))
    return found


@pytest.mark.parametrize("images", [False, True])
def test_the_request_log_has_images_only_if_the_option_is_set(serve, tmp_path, make_image, images):
    folder = tmp_path / "log"
    _, stub = serve(
        "images",
        log=RequestLogConfig(str(folder / "requests"), 1.0),
        request_log=RequestLogOptions(images=images),
    )
    for seed in range(3):
        stub.Predict(ask(image_bytes=[make_image(seed)]), timeout=30)
    found = records(folder)
    assert len(found) == 3
    for seed, log in enumerate(found):
        assert log.log_metadata.model_spec.version.value == 3
        assert log.predict_log.response.outputs["probabilities"].float_val
        sent = log.predict_log.request.inputs
        assert ("image_bytes" in sent) == images
        if images:
            assert sent["image_bytes"].string_val[0] == make_image(seed)


def test_the_size_of_the_request_log_is_limited(serve, tmp_path):
    folder = tmp_path / "log"
    _, stub = serve(
        "half_plus_two",
        log=RequestLogConfig(str(folder / "requests"), 1.0),
        request_log=RequestLogOptions(max_bytes=16_000),
    )
    for _ in range(100):
        stub.Predict(ask(x=np.zeros(100, np.float32)), timeout=30)
    sizes = [path.stat().st_size for path in folder.glob("*.tfrecord")]
    assert 2 <= len(sizes) <= 8 and 8_000 < sum(sizes) < 20_000


def test_the_request_log_samples_a_share_of_the_requests(serve, tmp_path):
    folder = tmp_path / "log"
    _, stub = serve("half_plus_two", log=RequestLogConfig(str(folder / "r"), 0.3))
    for _ in range(200):
        stub.Predict(ask(x=np.float32([1])), timeout=30)
    assert 30 < len(records(folder)) < 95


def test_the_request_log_continues_after_its_files_are_deleted(tmp_path):
    folder = tmp_path / "log"
    logs, config = RequestLogs(), RequestLogConfig(str(folder / "r"), 1.0)

    def kept() -> int:
        logs.record(config, "predict_log", ask(), predict_pb2.PredictResponse(), "m", 1)
        return len(records(folder))

    assert [kept(), kept()] == [1, 2]
    for file in folder.iterdir():
        file.unlink()
    assert [kept(), kept()] == [1, 2]
    shutil.rmtree(folder)
    assert [kept(), kept()] == [1, 2]
    logs.close()


def test_a_full_disk_costs_no_earlier_record_of_the_request_log(tmp_path, monkeypatch, caplog):
    logs = RequestLogs(RequestLogOptions(max_bytes=2_000))
    config = RequestLogConfig(str(tmp_path / "r"), 1.0)

    def record(times: int) -> None:
        for _ in range(times):
            logs.record(config, "predict_log", ask(), predict_pb2.PredictResponse(), "m", 1)

    def fail(writer) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    record(10)
    with monkeypatch.context() as disk:
        disk.setattr(tf.io.TFRecordWriter, "write", lambda writer, record: None)
        disk.setattr(tf.io.TFRecordWriter, "flush", fail)
        disk.setattr(request_log, "_PAUSE_S", 0.0)
        record(100)
        assert len(records(tmp_path)) == 10
        assert all(file.stat().st_size for file in tmp_path.glob("*.tfrecord"))
        disk.setattr(request_log, "_PAUSE_S", 60.0)
        caplog.clear()
        record(3)
        assert caplog.text.count("No space left") == 1
    record(1)
    assert len(records(tmp_path)) == 10, "nothing is written during the pause"
    logs.close()


def test_stopped_servers_leave_no_threads(push, tmp_path):
    push("half_plus_two", tmp_path, 1)
    counts = []
    for _ in range(4):
        with ModelServer("m", tmp_path) as server:
            server.wait_until_available(30)
        time.sleep(0.2)
        counts.append(threading.active_count())
    assert counts[-1] <= counts[0]
