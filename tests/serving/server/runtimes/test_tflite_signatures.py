"""Signatures in the metadata of a .tflite file, which LiteRT does not read."""

from __future__ import annotations

import numpy as np
import pytest
from flatbuffers import flexbuffers
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from imgpipe.serving.client import Client
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.core import CoreOptions
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.server.versions.loader import LoaderOptions
from tests.conformance.models import half_plus_two_tflite

TFLITE = ServerOptions(
    core=CoreOptions(poll_seconds=0.05, tflite=True), loader=LoaderOptions(tflite=True)
)


def signature(x: str = "x:0") -> bytes:
    """Return a serialized SignatureDef from ``given`` to ``found``."""
    made = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    made.inputs["given"].name, made.outputs["found"].name = x, "y:0"
    return made.SerializeToString()


def with_metadata(content: bytes, stored: bytes) -> bytes:
    """Return a .tflite file with serialized signatures in its metadata."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    model.buffers.append(buffer := schema.BufferT())
    buffer.data = np.frombuffer(stored, np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"signature_defs_metadata", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a version whose model.tflite has the given metadata."""

    def do(stored: bytes):
        base = half_plus_two_tflite(tmp_path, signatures=False)
        (file,) = base.glob("*/model.tflite")
        file.write_bytes(with_metadata(file.read_bytes(), stored))
        return base

    return do


def flexible(**signatures: bytes) -> bytes:
    """Return signatures as a map in the FlexBuffers format."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in signatures.items():
            builder.Key(key)
            builder.String(value.decode("latin-1"))
    return bytes(builder.Finish())


def test_signatures_in_the_metadata_are_served(write):
    base = write(flexible(serving_default=signature(), other=signature()))
    with (
        ModelServer("m", base, options=TFLITE) as server,
        Client(server.target, "m", timeout=20) as client,
    ):
        server.wait_until_available(60)
        for key in ("", "other"):
            answer = client.predict({"given": np.float32([2.0])}, key)
            assert {name: v.tolist() for name, v in answer.outputs.items()} == {"found": [3.0]}


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (flexible(serving_default=signature("z:0")), "input given references an unknown tensor: z"),
        (flexible(serving_default=b"\x0a\x05no"), "Invalid SignatureDefs found in TfLite model"),
        (b"\x00", "Invalid SignatureDefs found in TfLite model"),
    ],
)
def test_damaged_signatures_fail_the_load(write, stored, words):
    with (
        ModelServer("m", write(stored), options=TFLITE) as server,
        pytest.raises(StatusError, match=words),
    ):
        server.wait_until_available(60)
