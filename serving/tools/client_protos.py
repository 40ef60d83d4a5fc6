"""Write ``serving/client/protos.binpb``, the descriptors of the client's message types.

The official stubs need TensorFlow for these definitions. The client does not, because it reads them
from this file, a FileDescriptorSet made from the locked ``tensorflow-serving-api``. Run the script
after an upgrade of either package; a test fails when the file is stale::

    python -m imgpipe.serving.tools.client_protos
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "client" / "protos.binpb"
MODULES = (
    "predict",
    "get_model_metadata",
    "get_model_status",
    "model_management",
)
"""The files whose messages the client uses; the files that they import are included too."""


def descriptor_set() -> bytes:
    """Return the serialized FileDescriptorSet, with each file after the files that it imports."""
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
