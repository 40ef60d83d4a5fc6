"""Embedded model server that speaks TensorFlow Serving's protocol.

It is meant for a single machine, for tests and for the serving check; production traffic belongs on
tensorflow/serving itself. TensorFlow is only imported when a server is created.

The modules, from the lowest layer to the highest; ``handle`` is a good one to read first:

* version directories: ``storage``, ``remote``;
* one loaded model: ``allowed_ops``, ``custom_ops``, ``graph_check``, ``saved_model_config``,
  ``runtime``, ``tflite_signatures``, ``tflite``, ``batching``, ``loading``;
* one request to a loaded model: ``predict``, ``examples``, ``limits``, and ``handle``, which gRPC
  and REST share;
* the versions of one model: ``warmup``, ``servable``, ``found_versions``, ``manager``;
* all models: ``config``, ``core``;
* every request: ``calls``, with ``access_log``, ``metrics`` and ``request_log``;
* the interfaces: ``services`` and ``pool`` (gRPC), the package ``rest`` (HTTP), ``profiler``;
* ``server`` with ``ModelServer``, and the program: ``flag_table``, ``flags``, ``model_server``.
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
