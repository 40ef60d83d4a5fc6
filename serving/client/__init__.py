"""Client of TensorFlow Serving's gRPC interface, without TensorFlow.

    from imgpipe.serving.client import Client

    with Client("localhost:8500", model="imgpipe") as client:
        for answer in client.classify(["cat.jpg"]):
            print(answer.label, answer.probability)

Threads may share a client; in a coroutine, `await asyncio.to_thread(client.classify, …)`. It
speaks to tensorflow_model_server and to the embedded server alike.

The modules, from the lowest layer to the highest: `protos` and `messages` (wire format) -
`channel` (connection) - `images` and `classifier` (many images) - `client`.
"""

from __future__ import annotations

from imgpipe.serving.client.channel import Tls
from imgpipe.serving.client.client import Client
from imgpipe.serving.client.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from imgpipe.serving.client.messages import (
    Classification,
    Metadata,
    Prediction,
    TensorSpec,
    VersionStatus,
)

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
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "VersionStatus",
]
