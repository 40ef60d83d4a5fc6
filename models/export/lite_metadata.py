"""Class names in a `.tflite` file, where MediaPipe and Android's tools look for them.

TensorFlow Lite's metadata are a FlatBuffer of their own (`metadata_schema.fbs` of MediaPipe, file
identifier M001), which a buffer of the model holds. They name a text file with one class a line,
which is appended to the model as an archive. The library that writes them, `tflite-support`, was
last released in 2023 and MediaPipe is 200 MB, so the few tables are written here.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Final

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

    Args:
        content: The file of a classifier of one input, which are pixels, and one output.
        vocabulary: Class names, in the order of the output.
        unknown_below: Probability that the model answers "unknown" below, which the description of
            the output says; 0 for a model that does not.

    Returns:
        The content of the file with metadata; its network is the same.
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
    """Return a ModelMetadata table of a classifier with a number of classes."""
    builder = flatbuffers.Builder(1024)
    pixels = _tensor(builder, "pixels", "RGB image, 0..255", content=_image_content(builder))
    labels = _vector(builder, [_labels_file(builder)])
    about = f"Probabilities of {classes} classes"
    if unknown_below:
        about += f"; the answer is unknown where none reaches {unknown_below:g} (unknown_below)"
    probabilities = _tensor(builder, "probabilities", about, files=labels)
    inputs = _vector(builder, [pixels])
    outputs = _vector(builder, [probabilities])
    # A number is the place of a field in its table of the schema.
    graph = _table(builder, 10, {2: inputs, 3: outputs})
    fields = {
        0: builder.CreateString("Image classifier"),
        1: builder.CreateString("Classifies an image. Trained with imgpipe."),
        3: _vector(builder, [graph]),
        7: builder.CreateString(_PARSER_VERSION),
    }
    builder.Finish(_table(builder, 8, fields), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _tensor(
    builder: flatbuffers.Builder, name: str, about: str, content: int = 0, files: int = 0
) -> int:
    """Add a TensorMetadata table."""
    fields = {0: builder.CreateString(name), 1: builder.CreateString(about), 3: content, 6: files}
    return _table(builder, 7, fields)


def _image_content(builder: flatbuffers.Builder) -> int:
    """Add a Content table that says that a tensor is an image in RGB."""
    builder.StartObject(2)
    builder.PrependInt8Slot(0, _RGB, 0)
    properties = builder.EndObject()
    builder.StartObject(2)
    builder.PrependUint8Slot(0, _IMAGE_PROPERTIES, 0)
    builder.PrependUOffsetTRelativeSlot(1, properties, 0)
    return int(builder.EndObject())


def _labels_file(builder: flatbuffers.Builder) -> int:
    """Add an AssociatedFile table for the names of the classes."""
    name = builder.CreateString(LABELS_FILE)
    about = builder.CreateString("Class names, in the order of the probabilities")
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependUOffsetTRelativeSlot(1, about, 0)
    builder.PrependInt8Slot(2, _TENSOR_AXIS_LABELS, 0)
    return int(builder.EndObject())


def _table(builder: flatbuffers.Builder, size: int, fields: dict[int, int]) -> int:
    """Add a table with references to other tables, texts or vectors; a 0 is left out."""
    builder.StartObject(size)
    for place, reference in fields.items():
        builder.PrependUOffsetTRelativeSlot(place, reference, 0)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, tables: Sequence[int]) -> int:
    """Add a vector of tables."""
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())
