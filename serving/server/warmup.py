"""Replay of the requests a model brings along, before it may answer anybody.

Same file and rules as TensorFlow Serving: ``assets.extra/tf_serving_warmup_requests``, a TFRecord
of PredictionLog, at most 1000; a request that fails, fails the load. This is what catches an
export that loads and cannot run.
"""

from __future__ import annotations

import logging
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.server import status
from serving.server.predict import predict
from serving.server.runtime import Runtime
from serving.server.status import Code, StatusError

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000
_log = logging.getLogger(__name__)


def replay(runtime: Runtime, directory: Path, model: str, version: int) -> int:
    """Run the warm-up requests under ``directory``; returns how many there were.

    Raises:
        StatusError: the file is damaged or too long, or one of the requests fails.
    """
    path = directory / FILE
    if not path.is_file():
        return 0
    count = 0
    with tf.device("CPU:0"):
        records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    while True:
        try:
            record = next(records)
        except StopIteration:
            return count
        except tf.errors.DataLossError as error:
            raise StatusError(
                Code.DATA_LOSS,
                f"{status.tidy(error.message)} Please verify your warmup data is in TFRecord "
                "format.",
            ) from error
        if count == MAX_RECORDS:
            raise status.invalid(
                f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}"
            )
        _replay_one(runtime, record, model, version)
        count += 1


def _replay_one(runtime: Runtime, record: bytes, model: str, version: int) -> None:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise status.invalid(f"Failed to parse warmup record: {error}") from error
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        predict(runtime, log.predict_log.request, model, version)
    elif kind in ("classify_log", "regress_log", "multi_inference_log"):
        _log.warning("model %s version %d: %s in the warm-up is skipped", model, version, kind)
    else:
        raise StatusError(
            Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind or 'LOG_TYPE_NOT_SET'}"
        )
