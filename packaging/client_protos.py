"""Writes the descriptors of the client's message types, which are ``serving/client/protos.binpb``.

Usage: ``python packaging/client_protos.py serving/client/protos.binpb``, after an upgrade of
``tensorflow-serving-api`` or of TensorFlow; a test fails when the file is stale. The official stubs
need TensorFlow for these definitions. The client reads them from the file, a FileDescriptorSet.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

MODULES = ("predict", "get_model_metadata", "get_model_status")
"""The files whose messages the client uses; the files that they import are included too."""


def descriptor_set() -> bytes:
    """Return the serialized FileDescriptorSet, with each file after the files that it imports."""
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
    Path(sys.argv[1]).write_bytes(descriptor_set())
