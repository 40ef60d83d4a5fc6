"""The message classes of TensorFlow Serving's API, built without TensorFlow.

The definitions lie in ``protos.binpb`` (written by ``serving/tools/client_protos.py``) and live in
a descriptor pool of their own: the default pool belongs to whoever imports TensorFlow in the same
process, and two definitions of one name would clash there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    data = Path(__file__).with_name("protos.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool


_POOL = _load()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(
        _POOL.FindMessageTypeByName(f"tensorflow.serving.{name}")
    )


PredictRequest = _message("PredictRequest")
PredictResponse = _message("PredictResponse")
GetModelMetadataRequest = _message("GetModelMetadataRequest")
GetModelMetadataResponse = _message("GetModelMetadataResponse")
SignatureDefMap = _message("SignatureDefMap")
GetModelStatusRequest = _message("GetModelStatusRequest")
GetModelStatusResponse = _message("GetModelStatusResponse")
STATES: dict[int, str] = {
    value.number: value.name
    for value in _POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State").values
}
