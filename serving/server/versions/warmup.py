"""Replay of the warm-up requests that come with a model, before the model becomes available.

The file and the rules are those of TensorFlow Serving: ``assets.extra/tf_serving_warmup_requests``
is a TFRecord file of at most 1000 PredictionLog records, and a load fails if one of its requests
fails. This detects exports that can be loaded but cannot run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.serving.server import status
from imgpipe.serving.server.requests.predict import Handle
from imgpipe.serving.server.status import Code, StatusError

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000


def replay(handle: Handle, directory: Path) -> int:
    """Run the warm-up requests of a version.

    Args:
        handle: The version that has just been loaded.
        directory: The folder of the version.

    Returns:
        The number of requests in the file.

    Raises:
        StatusError: The file is damaged or too long, or one of the requests fails.
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
    if log.WhichOneof("log_type") != "predict_log":
        raise StatusError(
            Code.UNIMPLEMENTED,
            f"Unsupported log_type for warmup: {log.WhichOneof('log_type')}. Expected: "
            "predict_log.",
        )
    request = log.predict_log.request
    handle.predict(request.inputs, request.model_spec.signature_name, request.output_filter)
