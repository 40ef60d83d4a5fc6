"""List of the models of a server, and its current configuration.

TensorFlow Serving only reports the state of a model to clients that know its name. These calls need
only the address of the server:

* REST: ``GET /v1/server/models`` and ``GET /v1/server/config``;
* gRPC: ``ListModels`` and ``GetConfig`` of ``imgpipe.serving.ServerService``. Both take a
  ``google.protobuf.Empty``. The first answers with a ``google.protobuf.Struct`` of the same JSON as
  REST, the second with a ``tensorflow.serving.ModelServerConfig``.

    {"models": [{"name": "flowers", "version_labels": {"stable": "3"}, "model_version_status": [
      {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]}]}
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import json_format, struct_pb2

from imgpipe.serving.server.core import Core
from imgpipe.serving.server.services import status_message
from imgpipe.serving.server.versions import config as configs

SERVICE = "imgpipe.serving.ServerService"


def models(core: Core) -> dict[str, Any]:
    """Return every model by name, with its versions, newest first, and its labels."""
    labels = {config.name: config.labels for config in core.configs}
    return {
        "models": [
            {
                "name": name,
                "version_labels": {key: str(n) for key, n in labels.get(name, {}).items()},
                **_as_dict(status_message(manager.states())),
            }
            for name, manager in sorted(core.models.items())
        ]
    }


def config(core: Core) -> dict[str, Any]:
    """Return the current configuration as JSON with the field names of a model config file."""
    return _as_dict(configs.to_proto(core.configs))


def _as_dict(message: Any) -> dict[str, Any]:
    values: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return values


def handler(core: Core) -> Any:
    """Return the gRPC handler of the service. It answers in the event loop, as it is fast."""

    async def list_models(data: bytes, context: Any) -> bytes:
        return bytes(json_format.ParseDict(models(core), struct_pb2.Struct()).SerializeToString())

    async def get_config(data: bytes, context: Any) -> bytes:
        return bytes(configs.to_proto(core.configs).SerializeToString())

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "ListModels": grpc.unary_unary_rpc_method_handler(list_models),
            "GetConfig": grpc.unary_unary_rpc_method_handler(get_config),
        },
    )
