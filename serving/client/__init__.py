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
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from imgpipe.serving.client.messages import (
    Classification,
    Prediction,
    VersionStatus,
)

__all__ = [
    "Classification",
    "Client",
    "DeadlineExceeded",
    "InvalidArgument",
    "NotFound",
    "Prediction",
    "ResourceExhausted",
    "ServingError",
    "Tls",
    "Unavailable",
    "VersionStatus",
]
