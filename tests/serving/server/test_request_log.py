"""The request log: which images it leaves out, and the size of its files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from imgpipe.models.errors import ConfigError
from imgpipe.serving import tensors
from imgpipe.serving.client import Client
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.monitoring import request_log
from imgpipe.serving.server.monitoring.request_log import RequestLog
from tests.serving.quick import quick

_SECRET = b"\xff\xd8\xff a face"


def example(**features):
    """Return a tf.Example with one bytes feature for each keyword."""
    message = tf.train.Example()
    for name, value in features.items():
        message.features.feature[name].bytes_list.value.append(value)
    return message


def predict(**inputs):
    request = predict_pb2.PredictRequest()
    for name, value in inputs.items():
        tensors.fill_compact(request.inputs[name], value)
    return request


def log_of(folder, **changes):
    """Return a log in a folder that keeps all requests."""
    prefix = str(folder / "m")
    return RequestLog(quick(request_log_prefix=prefix, request_log_sampling_rate=1.0, **changes))


@pytest.fixture
def kept(tmp_path):
    """Return a function that logs one request and returns the record, as bytes and parsed."""

    def make(request, images=False):
        log = log_of(tmp_path, request_log_images=images)
        log.record(request, predict_pb2.PredictResponse())
        log.close()
        ((content,), _) = records(tmp_path)
        return content, prediction_log_pb2.PredictionLog.FromString(content)

    return make


def test_encoded_images_and_pixels_are_left_out(kept):
    pixels = np.full((1, 4, 4, 3), 7, np.uint8)
    scaled = np.full((1, 4, 4, 3), 0.5, np.float32)
    request = predict(
        image_bytes=[_SECRET], pixels=pixels, scaled=scaled, threshold=np.float32([0.5])
    )
    content, log = kept(request)
    assert _SECRET not in content and list(log.predict_log.request.inputs) == ["threshold"]
    assert set(request.inputs) == {"image_bytes", "pixels", "scaled", "threshold"}, (
        "the request is the server's"
    )


def test_images_inside_examples_are_left_out(kept):
    sent = example(image_bytes=_SECRET, camera=b"door")
    strings = [sent.SerializeToString(), b"image_bytes, and no example"]
    content, log = kept(predict(examples=strings))
    assert _SECRET not in content
    first, second = log.predict_log.request.inputs["examples"].string_val
    assert tf.train.Example.FromString(first) == example(camera=b"door")
    assert second == strings[1]


def test_an_example_that_only_a_graph_can_read_is_left_out(kept):
    """Protobuf refuses a feature whose name is not UTF-8, and a graph accepts it."""
    sent = example(image_bytes=_SECRET, zz=b"door").SerializeToString().replace(b"zz", b"\xff\xfe")
    content, _ = kept(predict(examples=[sent]))
    assert _SECRET not in content


def test_images_are_kept_if_the_option_is_set(kept):
    content, _ = kept(predict(image_bytes=[_SECRET]), images=True)
    assert _SECRET in content


def test_a_record_after_a_failed_write_begins_a_new_file(tmp_path, monkeypatch):
    """Readers stop at a record that a full disk has cut off."""
    monkeypatch.setattr(request_log, "_PAUSE_S", 0.0)
    writer = request_log._Writer(str(tmp_path / "log" / "m"), 1 << 20)
    writer.write(b"first")
    writer._file.close()  # so that the next write raises an error, as on a full disk
    with pytest.raises(Exception, match="closed"):
        writer.write(b"lost")
    writer.write(b"second")
    writer.close()
    found = [
        [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
        for file in sorted((tmp_path / "log").iterdir())
    ]
    assert found == [[b"first"], [b"second"]]


def records(folder):
    """Return the records of a log in the order in which they were written, and its bytes."""
    files = sorted(folder.glob("m-*"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    found = [record.numpy() for file in files for record in tf.data.TFRecordDataset(str(file))]
    return found, sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("size", [10, 90, 100, 300, 900])
def test_the_log_is_as_large_as_its_limit_allows(tmp_path, size):
    writer = request_log._Writer(str(tmp_path / "m"), 1000)
    for letter in b"abcdefghijklmnop" * 10:
        writer.write(bytes([letter]) * size)
    writer.close()
    found, total = records(tmp_path)
    assert found[-1] == b"p" * size
    assert 1000 - 2 * max(size, 125) < total <= 1000


def test_a_record_larger_than_the_limit_deletes_no_other(tmp_path):
    writer = request_log._Writer(str(tmp_path / "m"), 1000)
    writer.write(b"small")
    with pytest.raises(OSError, match="1001 bytes is not kept, because all files together"):
        writer.write(b"x" * 985)
    writer.close()
    assert records(tmp_path)[0] == [b"small"]


def test_the_log_of_a_server_names_the_version_and_samples_a_share(push, tmp_path):
    push("half_plus_two", tmp_path / "base", 3)
    folder = tmp_path / "log"
    log = {"request_log_prefix": str(folder / "m"), "request_log_sampling_rate": 0.3}
    with (
        ModelServer("half", tmp_path / "base", quick(**log)) as server,
        Client(server.target, "half") as client,
    ):
        server.wait_until_available(30)
        for _ in range(200):
            client.predict({"x": np.float32([1])})
    found, _ = records(folder)
    assert 30 < len(found) < 95
    spec = prediction_log_pb2.PredictionLog.FromString(found[0]).log_metadata.model_spec
    assert (spec.name, spec.version.value) == ("half", 3)


def test_the_log_continues_after_its_files_are_deleted(tmp_path):
    folder = tmp_path / "log"
    log = log_of(folder)

    def count() -> int:
        log.record(predict(), predict_pb2.PredictResponse())
        return len(records(folder)[0])

    assert [count(), count()] == [1, 2]
    for file in folder.iterdir():
        file.unlink()
    assert [count(), count()] == [1, 2]
    shutil.rmtree(folder)
    assert [count(), count()] == [1, 2]
    log.close()


def test_a_full_disk_costs_no_earlier_record(tmp_path, monkeypatch, caplog):
    log = log_of(tmp_path, request_log_max_bytes=2_000)

    def record(times: int) -> None:
        for _ in range(times):
            log.record(predict(), predict_pb2.PredictResponse())

    def fail(writer) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    record(10)
    with monkeypatch.context() as disk:
        disk.setattr(tf.io.TFRecordWriter, "write", lambda writer, record: None)
        disk.setattr(tf.io.TFRecordWriter, "flush", fail)
        disk.setattr(request_log, "_PAUSE_S", 0.0)
        record(100)
        assert len(records(tmp_path)[0]) == 10
        assert all(file.stat().st_size for file in tmp_path.glob("*.tfrecord"))
        disk.setattr(request_log, "_PAUSE_S", 60.0)
        caplog.clear()
        record(3)
        assert caplog.text.count("No space left") == 1
    record(1)
    assert len(records(tmp_path)[0]) == 10, "nothing is written during the pause"
    log.close()


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for prefix, words in ((tmp_path, "Received a folder"), (tmp_path / "file" / "m", "cannot be")):
        with pytest.raises(ConfigError, match=words):
            RequestLog(quick(request_log_prefix=str(prefix)))
