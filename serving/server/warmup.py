"""Replay of the requests a model brings along, before it may answer anybody.

Same file and rules as TensorFlow Serving: ``assets.extra/tf_serving_warmup_requests``, a TFRecord
of PredictionLog, at most 1000; a request that fails, fails the load. This is what catches an
export that loads and cannot run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.serving.server import status
from imgpipe.serving.server.examples import Task
from imgpipe.serving.server.handle import Handle
from imgpipe.serving.server.status import Code, StatusError

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000


def replay(handle: Handle, directory: Path, iterations: int = 1) -> int:
    """Run the warm-up requests under ``directory``; returns how many there were.

    Args:
        handle: the version that has just been loaded.
        directory: its folder.
        iterations: how often each request runs.

    Raises:
        StatusError: the file is damaged or too long, or one of the requests fails.
    """
    path = directory / FILE
    if not path.is_file():
        return 0
    count = 0
    for record in _records(path):
        if count == MAX_RECORDS:
            raise status.invalid(
                f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}"
            )
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError as error:
            raise status.invalid(f"Failed to parse warmup record: {error}") from error
        for _ in range(max(iterations, 1)):
            _replay_one(handle, log)
        count += 1
    return count


def _records(path: Path) -> Iterator[bytes]:
    with tf.device("CPU:0"):
        records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    while True:
        try:
            yield next(records)
        except StopIteration:
            return
        except tf.errors.DataLossError as error:
            raise StatusError(
                Code.DATA_LOSS,
                f"{status.tidy(error.message)} Please verify your warmup data is in TFRecord "
                "format.",
            ) from error


def _replay_one(handle: Handle, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        handle.predict(request.inputs, request.model_spec.signature_name, request.output_filter)
    elif kind == "classify_log":
        request = log.classify_log.request
        handle.classify(request.input, request.model_spec.signature_name)
    elif kind == "regress_log":
        request = log.regress_log.request
        handle.regress(request.input, request.model_spec.signature_name)
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        tasks = [Task(t.method_name, t.model_spec.signature_name) for t in request.tasks]
        handle.infer(tasks, request.input, multi=True)
    else:
        raise StatusError(
            Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind or 'LOG_TYPE_NOT_SET'}"
        )
