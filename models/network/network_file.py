"""The Keras network inside an exported model, from which the network can be built again.

A SavedModel contains functions, not layers. `assets.extra/network/network.json` holds the
configuration of the network and the SHA-256 of each array of each layer. The arrays are the
SavedModel's own variables and are found by their SHA-256. Therefore nothing is stored twice, and
the network that is inspected is the one that is served. Keras' safe mode refuses code in the
configuration.

Some layers of KerasHub cannot be built from their configuration. The file of such a network holds
the settings and what the preset says of its network, from which it is built as for training.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, cast

import numpy as np

from imgpipe.models.arrays import Array
from imgpipe.models.backbones import layer_graph, presets
from imgpipe.models.backbones.network_copy import of_keras, set_weights
from imgpipe.models.backbones.registry import architecture
from imgpipe.models.errors import ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.network.classifier import ClassifierNetwork, build_classifier
from imgpipe.models.settings.settings import Settings

if TYPE_CHECKING:
    import keras

FOLDER: Final = "assets.extra/network"
FILE: Final = "network.json"
#: The sections by which a network of KerasHub is built again.
_SECTIONS: Final[dict[str, bool | set[str]]] = {
    "run": {"name"},
    "model": True,
    "train": {"seed"},
    "course": True,
}


class StoredNetwork(TypedDict, total=False):
    """Content of the file."""

    built_by: str  # name of the backbone, or of the function that replaces it
    vocabulary: list[str]
    temperature: float
    maps: list[str]  # layers at which trunk and tail are divided
    arrays: list[list[str]]  # SHA-256 of each array of each layer
    network: object  # the configuration of the network; or instead of it:
    settings: dict[str, dict[str, object]]  # of the network, by section
    preset: dict[str, object]  # files of the preset that describe the network


def save(classifier: ClassifierNetwork, settings: Settings, directory: str) -> None:
    """Write the folder `FOLDER` of an exported model, whose folder must exist."""
    import tensorflow as tf

    network = classifier.network
    content: StoredNetwork = {
        "built_by": settings.model.network,
        "vocabulary": list(classifier.vocabulary),
        "temperature": classifier.temperature,
        "maps": [output._keras_history.operation.name for output in classifier.trunk.outputs],
        "arrays": [[_sha256(array) for array in layer.get_weights()] for layer in network.layers],
    }
    preset = architecture(settings.model.network).preset
    if preset is None or of_keras(network):
        content["network"] = json.loads(network.to_json())
    else:
        read = settings.but(model={"features": settings.largest_kind})
        content["settings"] = read.model_dump(mode="json", include=_SECTIONS)
        content["preset"] = preset.described()
    folder = f"{directory.rstrip('/')}/{FOLDER}"
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(f"{folder}/{FILE}", "w") as file:
        file.write(json.dumps(content))


def load(version: Path) -> ClassifierNetwork:
    """Load the classifier of an exported model or of a published version, with its weights.

    Args:
        version: Folder of the SavedModel or of the version.

    Raises:
        ResourceError: The version contains no network, the network is damaged, has layers of its
            owner's own classes, or cannot be read by this version of Keras.
    """
    import keras

    content = _read(version)
    try:
        arrays = _variables(version)
        network = _built(content)
        # The other layers of a network of KerasHub may be others in another version of imgpipe.
        weighted = [layer for layer in network.layers if layer.get_weights()]
        for layer, hashes in zip(weighted, filter(None, content["arrays"]), strict=True):
            set_weights(layer, [arrays[key] for key in hashes])
        nodes = layer_graph.nodes(network.outputs)
        outputs = {node.operation.name: node.outputs[0] for node in nodes}
        maps = [outputs[name] for name in content["maps"]]
        return ClassifierNetwork(
            network,
            keras.Model(network.input, maps),
            keras.Model(maps, network.output),
            tuple(content["vocabulary"]),
            int(network.input.shape[1]),
            float(content["temperature"]),
        )
    except Exception as error:  # Keras raises errors of many kinds for a configuration
        own = f", which {content['built_by']} built" if ":" in str(content["built_by"]) else ""
        raise ResourceError(
            f"the network in {version / FOLDER}{own} cannot be built again: "
            f"{type(error).__name__}: {str(error)[:300]}. Use the packages that it was trained "
            "with, restore the version, or run the pipeline again. The signatures of the "
            "SavedModel need no such code"
        ) from error


def _built(content: StoredNetwork) -> keras.Model:
    """Build the network that a file describes, with random weights."""
    import keras

    if "preset" not in content:
        return keras.models.model_from_json(json.dumps(content["network"]))
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        for name, described in content["preset"].items():
            (Path(folder) / name).write_text(json.dumps(described), "utf-8")
        random = {"backbone": f"{presets.PREFIX}{folder}", "weights": "none", "weights_sha256": ""}
        sections = content["settings"]
        settings = Settings.model_validate({**sections, "model": {**sections["model"], **random}})
        temperature = float(content["temperature"])  # a constant of the network
        return build_classifier(None, content["vocabulary"], settings, temperature).network


def _read(version: Path) -> StoredNetwork:
    path = version / FOLDER / FILE
    try:
        return cast(StoredNetwork, {"built_by": "", **json_object.read(path)})
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"{path}, the network that the version was made of, cannot be read: {error}. Only "
            "versions that a run has published hold it. Restore the version, or run the pipeline "
            "again"
        ) from error


def _variables(version: Path | str) -> dict[str, Array]:
    """Return the SavedModel's variables by their SHA-256."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(f"{version}/variables/variables")
    values = [reader.get_tensor(name) for name in reader.get_variable_to_shape_map()]
    arrays = [np.asarray(value) for value in values if not isinstance(value, bytes)]
    return {_sha256(array): array for array in arrays}


def _sha256(array: Array) -> str:
    # The shape is part of it: zeros of different shapes may have the same bytes.
    digest = hashlib.sha256(repr((array.shape, str(array.dtype))).encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
