"""List of the models of a server, ``GET /v1/server/models``, which the page shows.

TensorFlow Serving only reports the state of a model to clients that know its name. This call needs
only the address of the server:

    {"models": [{"name": "flowers", "version_labels": {"stable": "3"}, "model_version_status": [
      {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]}]}
"""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format

from imgpipe.serving.server.core import Core
from imgpipe.serving.server.services import status_message


def models(core: Core) -> dict[str, Any]:
    """Return every model by name, with its versions, newest first, and its labels."""
    labels = {name: config.labels for name, config in core.configs.items()}
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


def _as_dict(message: Any) -> dict[str, Any]:
    values: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return values
