"""Write ``serving/client/protos.binpb``: the message types the client speaks, as descriptors.

The official stubs import TensorFlow only to get at these definitions. Taken once from the locked
``tensorflow-serving-api`` and kept as a FileDescriptorSet, they let the client do without. Run it
after an upgrade of either package; a test says when the file is stale::

    python -m imgpipe.serving.tools.client_protos
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "client" / "protos.binpb"
MODULES = (
    "predict",
    "classification",
    "regression",
    "inference",
    "get_model_metadata",
    "get_model_status",
    "model_management",
)
"""The files whose messages the client speaks; what they import comes with them."""


def descriptor_set() -> bytes:
    """The serialized FileDescriptorSet: each file after all that it imports."""
    from google.protobuf import descriptor_pb2

    files: dict[str, Any] = {}

    def collect(file: Any) -> None:
        if file.name not in files:
            for dependency in file.dependencies:
                collect(dependency)
            files[file.name] = file

    for name in MODULES:
        collect(importlib.import_module(f"tensorflow_serving.apis.{name}_pb2").DESCRIPTOR)
    result = descriptor_pb2.FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(result.file.add())
    return result.SerializeToString(deterministic=True)


if __name__ == "__main__":
    TARGET.write_bytes(descriptor_set())
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")
