"""Without ``images`` the request log contains no image, in whichever form it was sent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    prediction_log_pb2,
)

from imgpipe.serving import tensors
from imgpipe.serving.server.monitoring import request_log
from imgpipe.serving.server.monitoring.request_log import RequestLogOptions, RequestLogs
from imgpipe.serving.server.versions.config import RequestLogConfig

_SECRET = b"\xff\xd8\xff a face"


def example(**features):
    """Return a tf.Example with one bytes feature for each keyword."""
    message = tf.train.Example()
    for name, value in features.items():
        message.features.feature[name].bytes_list.value.append(value)
    return message


@pytest.fixture
def kept(tmp_path):
    """Return a function that logs one request and reads the log back.

    It takes (kind, request, images) and returns the bytes of the record and the parsed record.
    """

    def make(kind, request, images=False):
        response = getattr(prediction_log_pb2.PredictionLog(), kind).response
        logs = RequestLogs(RequestLogOptions(images=images))
        logs.record(RequestLogConfig(str(tmp_path / "r"), 1.0), kind, request, response, "m", 1)
        logs.close()
        (file,) = tmp_path.glob("r-*.tfrecord")
        (content,) = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        return content, prediction_log_pb2.PredictionLog.FromString(content)

    return make


def predict(**inputs):
    request = predict_pb2.PredictRequest()
    for name, value in inputs.items():
        tensors.fill_compact(request.inputs[name], value)
    return request


def test_encoded_images_and_pixels_are_left_out(kept):
    pixels = np.full((1, 4, 4, 3), 7, np.uint8)
    scaled = np.full((1, 4, 4, 3), 0.5, np.float32)
    request = predict(
        image_bytes=[_SECRET], pixels=pixels, scaled=scaled, threshold=np.float32([0.5])
    )
    content, log = kept("predict_log", request)
    assert _SECRET not in content and list(log.predict_log.request.inputs) == ["threshold"]
    assert set(request.inputs) == {"image_bytes", "pixels", "scaled", "threshold"}, (
        "the request is the server's"
    )


def test_images_inside_examples_are_left_out(kept):
    sent = example(image_bytes=_SECRET, camera=b"door")
    strings = [sent.SerializeToString(), b"image_bytes, and no example"]
    content, log = kept("predict_log", predict(examples=strings))
    assert _SECRET not in content
    first, second = log.predict_log.request.inputs["examples"].string_val
    assert tf.train.Example.FromString(first) == example(camera=b"door")
    assert second == strings[1]


def test_an_example_that_only_a_graph_can_read_is_left_out(kept):
    """Protobuf refuses a feature whose name is not UTF-8, and a graph accepts it."""
    sent = example(image_bytes=_SECRET, zz=b"door").SerializeToString().replace(b"zz", b"\xff\xfe")
    content, _ = kept("predict_log", predict(examples=[sent]))
    assert _SECRET not in content


@pytest.mark.parametrize("kind", ["example_list", "example_list_with_context"])
def test_images_of_classify_and_multi_inference_are_left_out(kept, kind):
    classify, multi = (
        classification_pb2.ClassificationRequest(),
        inference_pb2.MultiInferenceRequest(),
    )
    for request in (classify, multi):
        listed = getattr(request.input, kind)
        listed.examples.append(example(image_bytes=_SECRET, camera=b"door"))
        if kind == "example_list_with_context":
            listed.context.CopyFrom(example(image_bytes=_SECRET))
    content, log = kept("classify_log", classify)
    assert _SECRET not in content and b"door" in content
    assert len(getattr(log.classify_log.request.input, kind).examples) == 1


def test_images_are_kept_if_the_option_is_set(kept):
    content, _ = kept("predict_log", predict(image_bytes=[_SECRET]), images=True)
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


def test_small_files_of_earlier_starts_are_kept_while_they_fit(tmp_path):
    sent = [b"%d" % number for number in range(10)]
    for number, record in enumerate(sent):
        writer = request_log._Writer(str(tmp_path / "m"), 1 << 20)
        writer._numbers = itertools.count(number)  # as those of another process
        writer.write(record)
        writer.close()
    assert records(tmp_path)[0] == sent


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
    with pytest.raises(OSError, match="1001 bytes is not kept, because --request_log_max_bytes"):
        writer.write(b"x" * 985)
    writer.close()
    assert records(tmp_path)[0] == [b"small"]
