"""Embedded model server that speaks TensorFlow Serving's protocol.

It is meant for a single machine, for tests and for the serving check; production traffic belongs on
tensorflow/serving itself. TensorFlow is only imported when a server is created.

Bottom up: ``storage``, ``remote`` (version directories) - ``allowed_ops``, ``custom_ops``,
``graph_check``, ``saved_model_config``, ``runtime``, ``tflite_signatures``, ``tflite``,
``batching``, ``loading`` (one loaded model) - ``predict``, ``examples``, ``limits`` (one request
on it) - ``handle`` (the API of every entry point: start reading there) - ``warmup`` - ``servable``
(life of one version) - ``manager`` (the versions of one model) - ``config``, ``core`` (all models)
- ``calls`` (around a request), with ``access_log``, ``metrics`` and ``request_log`` - ``services``,
``pool`` (gRPC), ``rest`` (HTTP, a folder of its own) - ``profiler``, ``server`` (``ModelServer``)
- ``flags``, ``model_server`` (the program).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgpipe.serving.server.server import ModelServer

__all__ = ["ModelServer"]


def __getattr__(name: str) -> Any:
    if name == "ModelServer":
        from imgpipe.serving.server.server import ModelServer

        return ModelServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
