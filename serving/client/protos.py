"""The messages and methods of TensorFlow Serving's API, built without TensorFlow.

The definitions are stored in `protos.binpb` (written by `packaging/client_protos.py`) and
loaded into a private descriptor pool. In the default pool they would clash with the definitions of
TensorFlow where the same process imports it. They take less than a second and 60 MiB; the modules
of tensorflow-serving-api import TensorFlow (https://github.com/tensorflow/serving/issues/271),
whose cost is in docs/benchmarks.md, "Constants of the code".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    data = Path(__file__).with_name("protos.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool


POOL = _load()
"""The definitions of all messages of the client."""


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"tensorflow.serving.{name}"))


PredictRequest = _message("PredictRequest")
PredictResponse = _message("PredictResponse")
GetModelMetadataRequest = _message("GetModelMetadataRequest")
GetModelMetadataResponse = _message("GetModelMetadataResponse")
SignatureDefMap = _message("SignatureDefMap")
GetModelStatusRequest = _message("GetModelStatusRequest")
GetModelStatusResponse = _message("GetModelStatusResponse")
STATES: dict[int, str] = {
    value.number: value.name
    for value in POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State").values
}


@dataclass(frozen=True)
class Method:
    """One RPC: its path and the class of its response."""

    path: str
    response: Any


PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

PREDICT = Method(f"/{PREDICTION_SERVICE}/Predict", PredictResponse)
SIGNATURE_DEF = "signature_def"
"""The field of a model's metadata that has its signatures."""

METADATA = Method(f"/{PREDICTION_SERVICE}/GetModelMetadata", GetModelMetadataResponse)
STATUS = Method(f"/{MODEL_SERVICE}/GetModelStatus", GetModelStatusResponse)
