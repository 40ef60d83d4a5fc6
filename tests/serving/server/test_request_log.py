"""The request log: which images it leaves out, and the size of its files."""

import os
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from imgpipe.models.errors import ConfigError
from imgpipe.serving import tensors
from imgpipe.serving.client import Client
from imgpipe.serving.server.request_log import RequestLog
from imgpipe.serving.server.writer import Writer
from tests.pipeline import small_version
from tests.serving.quick import photograph, quick, running

_SECRET = b"\xff\xd8\xff a face"


def log_of(folder, writer=None, **changes):
    usual = {"request_log_prefix": str(folder / "m"), "request_log_sampling_rate": 1.0}
    return RequestLog(quick(**usual | changes), writer)


def record(log, times: int, **inputs) -> None:
    arrays = {name: tensors.as_array(value) for name, value in inputs.items()}
    for _ in range(times):
        log.record(arrays, predict_pb2.PredictResponse(), {})


def records(folder):
    """Return the records of a log in the order in which they were written, and its bytes."""
    files = sorted(folder.glob("m-*"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    found = [record.numpy() for file in files for record in tf.data.TFRecordDataset(str(file))]
    return found, sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_only_the_owner_can_read_the_log(tmp_path, umask):
    before = os.umask(umask)
    try:
        record(log_of(tmp_path / "log"), 1)
    finally:
        os.umask(before)
    (file,) = (tmp_path / "log").iterdir()
    assert not (tmp_path / "log").stat().st_mode & 0o077
    assert not file.stat().st_mode & 0o077 and file.stat().st_size


@pytest.mark.parametrize("images", [False, True])
def test_images_are_left_out_unless_the_option_is_set(tmp_path, images):
    example = tf.train.Example()
    example.features.feature["image_bytes"].bytes_list.value.append(_SECRET)
    inputs = {
        "image_bytes": [_SECRET],
        "examples": [example.SerializeToString()],
        "pixels": np.full((1, 4, 4, 3), 7, np.uint8),
        "threshold": np.float32([0.5]),
    }
    log = log_of(tmp_path, request_log_images=images)
    record(log, 1, **inputs)
    log.close()
    ((content,), _) = records(tmp_path)
    found = set(prediction_log_pb2.PredictionLog.FromString(content).predict_log.request.inputs)
    assert found == (set(inputs) if images else {"threshold"})
    assert (_SECRET in content) == images


@pytest.mark.parametrize(
    "wanted", [(), ("probabilities",), ("unlike", "top_k_classes"), ("label",)]
)
def test_label_and_probabilities_are_logged_whatever_a_request_asks_for(tmp_path, wanted):
    near = [photograph(seed) for seed in range(3)]
    small_version.push(tmp_path, near=near)
    settings = {"request_log_prefix": str(tmp_path / "m"), "request_log_sampling_rate": 1.0}
    with (
        running(tmp_path / "model", "imgpipe", **settings) as server,
        Client(server.target) as client,
    ):
        whole = client.predict({"image_bytes": near}).outputs
        given = client.predict({"image_bytes": near}, output_filter=wanted).outputs
    assert set(given) == set(wanted or whole), "the answer itself has what was asked for"
    ((_, content), _) = records(tmp_path)
    logged = prediction_log_pb2.PredictionLog.FromString(content).predict_log
    assert tuple(logged.request.output_filter) == wanted
    said = {name: tensors.to_array(value) for name, value in logged.response.outputs.items()}
    assert set(said) == set(given) | {"label", "probabilities"}
    for name, values in said.items():
        np.testing.assert_array_equal(values, whole[name])


def test_a_share_of_the_requests_is_kept(tmp_path):
    log = log_of(tmp_path, request_log_sampling_rate=0.3)
    record(log, 200)
    log.close()
    assert 30 < len(records(tmp_path)[0]) < 95


@pytest.mark.parametrize("size", [50, 100, 900])
def test_the_log_is_as_large_as_its_limit_allows(tmp_path, size):
    log = log_of(tmp_path, request_log_max_bytes=8000)
    for letter in b"abcdefghijklmnop" * 20:
        log.write(bytes([letter]) * size)
    with pytest.raises(OSError, match="1001 bytes exceeds the limit"):
        log.write(b"x" * 985)
    log.close()
    found, total = records(tmp_path)
    assert found[-1] == b"p" * size
    assert 6000 < total <= 8000


def test_the_log_continues_after_its_files_are_deleted(tmp_path):
    folder = tmp_path / "log"
    log = log_of(folder)
    record(log, 2)
    assert len(records(folder)[0]) == 2
    shutil.rmtree(folder)
    record(log, 2)
    assert len(records(folder)[0]) == 2
    log.close()


def test_a_full_disk_costs_no_earlier_record(tmp_path, monkeypatch, caplog):
    """What cannot be written is dropped and counted, and told once."""
    writer = Writer()
    log = log_of(tmp_path, writer)
    log.write(b"earlier")

    def fail(writer) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(tf.io.TFRecordWriter, "write", lambda writer, record: None)
        disk.setattr(tf.io.TFRecordWriter, "flush", fail)
        record(log, 100)
        writer.close(60)
    assert writer.dropped == 100
    assert caplog.text.count("No space left on device") == 1
    assert len(records(tmp_path)[0]) == 1
    assert all(file.stat().st_size for file in tmp_path.glob("*.tfrecord"))


def test_a_stalled_disk_holds_no_request(tmp_path, monkeypatch):
    """It held every answer."""
    writer, released = Writer(), threading.Event()
    log = log_of(tmp_path, writer)
    with monkeypatch.context() as disk:
        disk.setattr(tf.io.TFRecordWriter, "flush", lambda writer: released.wait(60))
        record(log, 1200)  # more than wait at a time
        assert 0 < writer.dropped < 300
        released.set()
        writer.close(60)
    log.close()
    assert len(records(tmp_path)[0]) == 1200 - writer.dropped


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for prefix, words in ((tmp_path, "Received a folder"), (tmp_path / "file" / "m", "cannot be")):
        with pytest.raises(ConfigError, match=words):
            RequestLog(quick(request_log_prefix=str(prefix)))
