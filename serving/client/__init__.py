"""Client of TensorFlow Serving's gRPC interface, without TensorFlow.

    from serving.client import Client

    with Client("localhost:8500", model="imgpipe") as client:
        for answer in client.classify(["cat.jpg"]):
            print(answer.label, answer.probability)

It speaks to tensorflow_model_server and to the embedded server alike.
"""

from __future__ import annotations

from serving.client.client import Client
from serving.client.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
    Unavailable,
    Unimplemented,
)
from serving.client.results import Classification, Metadata, Prediction, TensorSpec, VersionStatus

__all__ = [
    "Cancelled",
    "Classification",
    "Client",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InternalError",
    "InvalidArgument",
    "Metadata",
    "NotFound",
    "PermissionDenied",
    "Prediction",
    "ResourceExhausted",
    "ServingError",
    "TensorSpec",
    "Unavailable",
    "Unimplemented",
    "VersionStatus",
]
