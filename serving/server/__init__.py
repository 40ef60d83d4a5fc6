"""Embedded model server that speaks TensorFlow Serving's protocol.

It is meant for a single machine, for tests and for the serving check; production traffic belongs on
tensorflow/serving itself. TensorFlow is only imported when a server is created.

The modules, from the lowest layer to the highest; ``requests.handle`` is a good one to read first:

* version directories: ``storage``, ``versions.remote_versions``;
* one loaded model: ``versions.loader`` decides what runs it, a TensorFlow session or LiteRT from
  ``runtimes``, which also checks the graph, with or without ``requests.batcher``;
* one request to a loaded model: ``requests.predict``, ``requests.examples``, ``requests.limits``,
  and ``requests.handle``, which gRPC and REST share;
* the versions of one model: ``versions.warmup``, ``versions.servable``, ``versions.manager``;
* all models: ``versions.config``, ``core``;
* every request: ``requests.pool`` and ``requests.calls``; ``monitoring`` observes them;
* the interfaces: ``services`` and ``grpc_port`` (gRPC), ``rest`` (HTTP), ``web`` (the page);
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
