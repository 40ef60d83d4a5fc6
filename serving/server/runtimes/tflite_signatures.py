"""Signatures of .tflite files that LiteRT does not read.

Older converters write SignatureDefs into the metadata of the file, as TensorFlow Serving reads them
(tensorflow/lite/tools/signature). The oldest write none; then the names of the tensors are used.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2

from imgpipe.serving.server.signature_names import DEFAULT_SIGNATURE
from imgpipe.serving.server.status import invalid

_METADATA = b"signature_defs_metadata"


def runners(content: bytes, interpreter: Interpreter) -> dict[str, Any]:
    """Return objects like LiteRT's signature runners, by signature key.

    Raises:
        StatusError: INVALID_ARGUMENT, the metadata is damaged or names tensors that do not exist.
    """
    keys = interpreter.get_signature_list()
    if keys:
        return {key: interpreter.get_signature_runner(key) for key in keys}
    stored = stored_signatures(content)
    if not stored:
        return {DEFAULT_SIGNATURE: TensorRunner(interpreter)}
    return {
        key: TensorRunner(interpreter, _names(definition.inputs), _names(definition.outputs))
        for key, definition in stored.items()
    }


def stored_signatures(content: bytes) -> dict[str, meta_graph_pb2.SignatureDef]:
    """Return the SignatureDefs in the metadata of a .tflite file by key; empty where it has none.

    Raises:
        StatusError: INVALID_ARGUMENT, the metadata cannot be read.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    for entry in map(model.Metadata, range(model.MetadataLength())):
        if entry.Name() != _METADATA:
            continue
        try:
            stored = flexbuffers.GetRoot(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
            keys = [key.AsKey for key in stored.AsMap.Keys]
            values = [value.AsStringBytes for value in stored.AsMap.Values]
            parse = meta_graph_pb2.SignatureDef.FromString
            return {key: parse(value) for key, value in zip(keys, values, strict=True)}
        except (DecodeError, TypeError, ValueError, AttributeError, IndexError, struct.error) as e:
            raise invalid(f"Invalid SignatureDefs found in TfLite model: {e}") from e
    return {}


def _names(infos: Mapping[str, Any]) -> dict[str, str]:
    return {alias: _plain(info.name) for alias, info in infos.items()}


def _plain(name: str) -> str:
    return str(name).partition(":")[0]


class TensorRunner:
    """Replaces a signature runner for files whose signatures LiteRT does not read."""

    def __init__(
        self,
        interpreter: Interpreter,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
    ) -> None:
        """Create the runner; without names by alias, every tensor has its own name as its alias.

        Raises:
            StatusError: INVALID_ARGUMENT, a tensor does not exist.
        """
        self._interpreter, self._inputs, self._outputs = interpreter, inputs, outputs
        interpreter.allocate_tensors()
        self.get_input_details()
        self.get_output_details()

    def get_input_details(self) -> dict[str, Any]:
        """Return LiteRT's description of each input by alias."""
        return _by_alias("input", self._interpreter.get_input_details(), self._inputs)

    def get_output_details(self) -> dict[str, Any]:
        """Return LiteRT's description of each output by alias."""
        return _by_alias("output", self._interpreter.get_output_details(), self._outputs)

    def __call__(self, **values: np.ndarray) -> dict[str, np.ndarray]:
        """Run the model and return its outputs by alias."""
        inputs = self.get_input_details()
        for alias, tensor in inputs.items():
            if tuple(tensor["shape"]) != values[alias].shape:
                self._interpreter.resize_tensor_input(tensor["index"], values[alias].shape)
        self._interpreter.allocate_tensors()
        for alias, tensor in inputs.items():
            self._interpreter.set_tensor(tensor["index"], values[alias])
        self._interpreter.invoke()
        outputs = self.get_output_details().items()
        return {alias: self._interpreter.get_tensor(tensor["index"]) for alias, tensor in outputs}


def _by_alias(
    kind: str, details: list[dict[str, Any]], names: Mapping[str, str] | None
) -> dict[str, Any]:
    tensors = {_plain(tensor["name"]): tensor for tensor in details}
    if names is None:
        return tensors
    for alias, name in names.items():
        if name not in tensors:
            raise invalid(f"Signature {kind} {alias} references an unknown tensor: {name}")
    return {alias: tensors[name] for alias, name in names.items()}
