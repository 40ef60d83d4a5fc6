"""Class names in a `.tflite` file, where MediaPipe and Android's tools look for them.

Keras writes a LiteRT file without them. TensorFlow Lite's metadata are a FlatBuffer of their own
(`metadata_schema.fbs` of MediaPipe, file identifier M001), which a buffer of the model holds. They
name a text file with one class a line, which is appended to the model as an archive. The library
that writes them, `tflite-support`, was last released in 2023 and MediaPipe is 200 MB, so the few
tables are written here.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Final

import flatbuffers

LABELS_FILE: Final = "labels.txt"
_METADATA: Final = "TFLITE_METADATA"  # name of the entry, by which readers find the buffer
_IDENTIFIER: Final = b"M001"
_PARSER_VERSION: Final = "1.0.0"  # the oldest version of a reader that knows these tables
# Values of the enumerations of the schema.
_TENSOR_AXIS_LABELS: Final = 2
_IMAGE_PROPERTIES: Final = 2
_RGB: Final = 1


def with_classes(content: bytes, vocabulary: Sequence[str], unknown_below: float = 0.0) -> bytes:
    """Return a `.tflite` file with the names of its classes.

    The names are in the order of the output. The description of the output says below which
    probability the model answers "unknown", if it does; the network stays the same.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    entry = schema.MetadataT()
    buffer = schema.BufferT()
    buffer.data = _metadata(len(vocabulary), unknown_below)
    entry.name = _METADATA
    entry.buffer = len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    file = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(model))
    # Readers map the file into memory, so the labels are stored without compression. Without a
    # time, equal networks give equal files.
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        labels = "".join(f"{name}\n" for name in vocabulary)
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), labels.encode("utf-8"))
    return file.getvalue()


def _metadata(classes: int, unknown_below: float) -> bytes:
    """Return a ModelMetadata table of a classifier with a number of classes.

    Each table is a dictionary from the place of a field in its table of the schema to the value.
    """
    about = f"Probabilities of {classes} classes"
    if unknown_below:
        about += f"; the answer is unknown where none reaches {unknown_below:g} (unknown_below)"
    content = {0: _IMAGE_PROPERTIES, 1: {0: _RGB}}
    pixels = {0: "pixels", 1: "RGB image, 0..255", 3: content}
    about_labels = "Class names, in the order of the probabilities"
    labels = {0: LABELS_FILE, 1: about_labels, 2: _TENSOR_AXIS_LABELS}
    probabilities = {0: "probabilities", 1: about, 6: [labels]}
    graph = {2: [pixels], 3: [probabilities]}
    model = {
        0: "Image classifier",
        1: "Classifies an image. Trained with imgpipe.",
        3: [graph],
        7: _PARSER_VERSION,
    }
    builder = flatbuffers.Builder(1024)
    builder.Finish(_add(builder, model), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _add(builder: flatbuffers.Builder, value: str | Sequence[Any] | Mapping[int, Any]) -> int:
    """Add a text, a vector of tables or a table, and return its place in the buffer."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Mapping):
        # What a table refers to is written before it; numbers stand in the table itself.
        fields = {
            field: content if isinstance(content, int) else _add(builder, content)
            for field, content in value.items()
        }
        builder.StartObject(max(fields) + 1)
        for field, content in fields.items():
            if isinstance(value[field], int):
                builder.PrependUint8Slot(field, content, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(field, content, 0)
        return int(builder.EndObject())
    tables = [_add(builder, table) for table in value]
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())
