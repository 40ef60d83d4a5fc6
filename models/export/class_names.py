"""Names of the classes inside of exported files, .keras and .tflite.

Keras writes everything that it knows into the configuration of a layer, and an older version
refuses what it does not know: a new parameter, even if it is unused, a new parameter of an
initialiser, or the name of an operation. So the configuration is written without what Keras assumes
anyway, and the head is one layer.

Keras writes a LiteRT file without them. TensorFlow Lite's metadata are a FlatBuffer of their own
(`metadata_schema.fbs` of MediaPipe, file identifier M001), which a buffer of the model holds. They
name a text file with one class a line, which is appended to the model as an archive. The library
that writes them, `tflite-support`, was last released in 2023 and MediaPipe is 200 MB, so the few
tables are written here.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import flatbuffers
import numpy as np

from imgpipe.models.names import HEAD, KERAS_CONFIG, PROBABILITIES
from imgpipe.models.network.classifier import ClassifierNetwork

if TYPE_CHECKING:
    import keras


#: Keys of the class names, and of the probability below which the answer is "unknown", in the
#: configuration; Keras ignores them.
CLASSES: Final = "classes"
UNKNOWN_BELOW: Final = "unknown_below"
_OPERATIONS: Final = "keras.src.ops."  # modules of operations that are no layers


def plain_network(classifier: ClassifierNetwork) -> keras.Model:
    """Return a network from pixels to probabilities whose head is one dense layer.

    The head of a classifier has operations behind its dense layer: for two classes it has one unit,
    beside which the other logit is 0, and a temperature divides the logits. Both are part of the
    weights here, so that a reader needs no operation for them.
    """
    import keras

    network = classifier.network
    head = network.get_layer(HEAD)
    kernel, bias = head.get_weights()
    if head.units == 1:
        kernel = np.concatenate([np.zeros_like(kernel), kernel], axis=1)
        bias = np.concatenate([np.zeros_like(bias), bias])
    classes = len(classifier.vocabulary)
    dense = keras.layers.Dense(classes, activation="softmax", dtype="float32", name=PROBABILITIES)
    probabilities = dense(head.input)
    dense.set_weights([kernel / classifier.temperature, bias / classifier.temperature])
    return keras.Model(network.input, probabilities, name=network.name)


def content(network: keras.Model, vocabulary: Sequence[str], unknown_below: float = 0.0) -> bytes:
    """Return the `.keras` file of a network.

    Its `config.json` lists the class names, in the order of the output, as `classes`, and has the
    probability that the model answers "unknown" below, if it does, as `unknown_below`.
    """
    written = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        file = Path(folder) / "model.keras"  # Keras saves to paths only, and looks at the ending
        network.save(file)
        with zipfile.ZipFile(file) as saved, zipfile.ZipFile(written, "w") as archive:
            for entry in saved.infolist():
                part = saved.read(entry)
                if entry.filename == KERAS_CONFIG:
                    configuration = {**_plain(json.loads(part)), CLASSES: list(vocabulary)}
                    if unknown_below:
                        configuration[UNKNOWN_BELOW] = unknown_below
                    part = json.dumps(configuration, ensure_ascii=False).encode("utf-8")
                archive.writestr(entry, part)
    return written.getvalue()


def _plain(value: Any) -> Any:
    """Return a value of the configuration as every version of Keras 3 reads it."""
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "DTypePolicy":
        return value["config"]["name"]
    plain = {key: _plain(entry) for key, entry in value.items()}
    if not {"module", "class_name"} <= value.keys() or not isinstance(value.get("config"), dict):
        return plain
    module = str(value["module"])
    assumed = _assumed(module, value["class_name"], value["config"])
    if module.startswith(_OPERATIONS):
        # Older operations take no name. The graph has its own, beside the configuration.
        assumed.add("name")
    plain["config"] = {k: entry for k, entry in plain["config"].items() if k not in assumed}
    return plain


def _assumed(module: str, name: str, configuration: Mapping[str, object]) -> set[str]:
    """Return the parameters of a class of Keras that a configuration need not have.

    They are those that have their default. Initialisers are among them, because the file contains
    the weights. A class that reads its configuration itself may ask for a number that is missing,
    as Rescaling does, but not for a function that is turned off.

    Nothing is assumed about the classes of other packages.
    """
    import keras

    kind = None
    if module.partition(".")[0] == "keras":
        kind = getattr(importlib.import_module(module), name, None)
    if kind is None:
        return set()
    usual = (keras.Layer.from_config.__func__, keras.Operation.from_config.__func__)
    reads_itself = getattr(getattr(kind, "from_config", None), "__func__", None) not in usual
    assumed = set()
    for parameter in inspect.signature(kind.__init__).parameters.values():
        default = parameter.default
        if parameter.name not in configuration or default is parameter.empty:
            continue
        given = configuration[parameter.name]
        if isinstance(default, tuple):
            default = list(default)  # as JSON has it
        off = given is None or given is False
        if parameter.name.endswith("_initializer") or (
            given == default and (off or not reads_itself)
        ):
            assumed.add(parameter.name)
    return assumed


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
