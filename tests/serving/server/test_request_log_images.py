"""Without ``images`` the request log contains no image, in whichever form it was sent."""

from __future__ import annotations

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
    request = predict(image_bytes=[_SECRET], pixels=pixels, threshold=np.float32([0.5]))
    content, log = kept("predict_log", request)
    assert _SECRET not in content and list(log.predict_log.request.inputs) == ["threshold"]
    assert set(request.inputs) == {"image_bytes", "pixels", "threshold"}, (
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


def test_a_record_after_a_failed_write_begins_a_new_file(tmp_path):
    """Readers stop at a record that a full disk has cut off."""
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
