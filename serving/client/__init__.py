"""Client of TensorFlow Serving's gRPC interface, without TensorFlow.

    from imgpipe.serving.client import Client

    with Client("localhost:8500", model="imgpipe") as client:
        for answer in client.classify(["cat.jpg"]):
            print(answer.label, answer.probability)

``AsyncClient`` has the same methods, awaited. Both speak to tensorflow_model_server and to the
embedded server alike.

The modules, from the lowest layer to the highest: ``protos`` and ``messages`` (wire format) -
``options`` (settings) - ``images`` and ``classifier`` (many images) - ``client`` and ``aio``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from imgpipe.serving.client.options import Tls

if TYPE_CHECKING:
    from imgpipe.serving.client.aio import AsyncClient

__all__ = [
    "AsyncClient",
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


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":  # importing asyncio takes a fifth of the start-up time
        from imgpipe.serving.client.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
