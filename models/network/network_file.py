"""The Keras network inside an exported model, from which the network can be built again.

A SavedModel contains functions, not layers. ``assets.extra/network/settings.json`` describes how
the network was built, and gives the shape and the SHA-256 of each array of each layer. The arrays
are the SavedModel's own variables and are found by their SHA-256. Therefore nothing is stored
twice, and the network that is inspected is the one that is served. Arrays that are not variables,
such as the constants of a separate normalisation, are stored in ``weights.npz``. The files from
which the training took its first weights are not needed. Only arrays are read, and no configuration
in a file can run code.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.backbones import registry
from imgpipe.models.backbones.network_copy import set_weights
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.array_archive import DAMAGED
from imgpipe.models.network.classifier import Classifier, build_classifier
from imgpipe.models.setting_sections import NetworkSettings
from imgpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    import keras

FOLDER: Final = "assets.extra/network"
SETTINGS_FILE: Final = "settings.json"
WEIGHTS_FILE: Final = "weights.npz"

_FORMAT: Final = 1
_SHOWN: Final = 3  # layers that an error lists

Array = npt.NDArray[Any]
Described = list[dict[str, Any]]


def save(classifier: Classifier, settings: ModelSettings, directory: str) -> None:
    """Write the folder `FOLDER` of an exported model.

    Args:
        classifier: The network that was exported.
        settings: Settings with which it was built.
        directory: Folder of the SavedModel, which must exist.
    """
    import tensorflow as tf

    variables = _variables(directory)
    described: Described = []
    missing: dict[str, Array] = {}
    for layer in classifier.network.layers:
        arrays = _state(layer)
        hashes = [_sha256(array) for array in arrays]
        missing |= {
            key: array for key, array in zip(hashes, arrays, strict=True) if key not in variables
        }
        described.append({**signature(layer), "arrays": hashes})
    content = {
        "format": _FORMAT,
        "settings": _portable(settings),
        "vocabulary": list(classifier.vocabulary),
        "temperature": classifier.temperature,
        "unknown_below": classifier.unknown_below,
        "layers": described,
    }
    folder = f"{directory.rstrip('/')}/{FOLDER}"
    tf.io.gfile.makedirs(folder)
    if missing:
        archive = io.BytesIO()
        np.savez(archive, *missing.values(), allow_pickle=False)
        with tf.io.gfile.GFile(f"{folder}/{WEIGHTS_FILE}", "wb") as file:
            file.write(archive.getvalue())
    with tf.io.gfile.GFile(f"{folder}/{SETTINGS_FILE}", "w") as file:
        file.write(json.dumps(content, indent=1))


def load(version: Path) -> Classifier:
    """Load the classifier of an exported model or of a published version, with its weights.

    Args:
        version: Folder of the SavedModel or of the version.

    Raises:
        ResourceError: The version contains no network, the network is damaged, or this version of
            Keras or of imgpipe builds another network.
    """
    content = _read(version)
    try:
        settings = _settings(content["settings"])
        if ":" in settings.network:  # no configuration in a file makes code run
            raise ResourceError(
                f"the network in {version} was built by {settings.network}, a function of its "
                "owner, and a file of a model is no reason to run one. Load the SavedModel "
                "instead; its signatures, cam among them, need no such code"
            )
        arrays = {**_variables(str(version)), **_stored(version)}
        classifier = _rebuilt(content, settings, version)
        for layer, description in zip(classifier.network.layers, content["layers"], strict=True):
            _put(layer, [_array(arrays, key, layer, version) for key in description["arrays"]])
    except DAMAGED as error:
        raise _damaged(version, f"{type(error).__name__}: {error}") from error
    return classifier


def _read(version: Path) -> dict[str, Any]:
    path = version / FOLDER / SETTINGS_FILE
    try:
        content = json_object.read(path)
    except FileNotFoundError:
        raise ResourceError(
            f"{version} does not hold the network that it was made of. Expected: {path}. Only "
            "versions that a run has published hold it"
        ) from None
    except (OSError, ValueError) as error:
        raise _damaged(version, str(error)) from error
    if content.get("format") != _FORMAT:
        raise _damaged(version, f"expected format {_FORMAT} in {SETTINGS_FILE}")
    return content


def _damaged(version: Path, why: str) -> ResourceError:
    return ResourceError(
        f"the network in {version / FOLDER} cannot be read: {why}. Restore the version, or run "
        "the pipeline again"
    )


def _portable(settings: ModelSettings) -> dict[str, Any]:
    """Return the settings without the path of a weights file, which is local to one machine."""
    values = asdict(settings)
    if settings.backbone_spec().local_file is not None:
        values["weights"] = Path(settings.weights).name
    return values


def _settings(values: Mapping[str, Any]) -> ModelSettings:
    """Return the stored settings that determine the network."""
    names = ("name", "seed", *(field.name for field in fields(NetworkSettings)))
    try:
        return ModelSettings.from_mapping({name: values[name] for name in names})
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _rebuilt(content: Mapping[str, Any], settings: ModelSettings, version: Path) -> Classifier:
    """Return a classifier with exactly the described layers and with any weights."""
    options = (content["temperature"], content["unknown_below"])
    differences = []
    for candidate in _candidates(settings):
        try:
            built = build_classifier(None, content["vocabulary"], candidate, *options)
        except ImgpipeError as error:
            differences.append(str(error))
            continue
        difference = _difference(content["layers"], built.network)
        if not difference:
            return built
        differences.append(difference)
    raise ResourceError(
        f"the network in {version / FOLDER} cannot be built again by this imgpipe and this Keras: "
        f"{'; '.join(differences)}. Use the packages that it was trained with, or run the "
        "pipeline again"
    )


def _candidates(settings: ModelSettings) -> Iterator[ModelSettings]:
    """Yield settings that may build the network, first with random weights, which need no file.

    BatchNorm is folded into the convolutions of a backbone with trained weights, and of one with
    random weights where it is frozen. A few networks have different layers with ImageNet weights.
    """
    spec = settings.backbone_spec()
    if not spec.trained:
        yield settings
        return
    packaged = registry.architecture(spec.name).packaged_sha256 is not None
    if not (packaged and spec.weights == "imagenet"):
        yield replace(settings, weights="none", weights_sha256="", freeze="all")
    if spec.local_file is None:
        yield settings


def _difference(described: Described, network: keras.Model) -> str:
    """Describe the first layers in which a network differs from its description, otherwise ""."""
    named = ("name", "kind", "output", "shapes")
    expected = [{key: layer[key] for key in named} for layer in described]
    received = [signature(layer) for layer in network.layers]
    if len(expected) != len(received):
        return f"expected {len(expected)} layers. Received: {len(received)}"
    pairs = [(a, b) for a, b in zip(expected, received, strict=True) if a != b]
    return ", ".join(f"expected {a}. Received: {b}" for a, b in pairs[:_SHOWN])


def signature(layer: Any) -> dict[str, Any]:
    """Return the properties that distinguish two layers, apart from their weights."""
    import keras

    outputs = [list(output.shape) for output in keras.tree.flatten(layer.output)]
    return {
        "name": layer.name,
        "kind": type(layer).__name__,
        "output": outputs[0] if len(outputs) == 1 else outputs,
        "shapes": [list(array.shape) for array in _state(layer)],
    }


def _state(layer: Any) -> list[Array]:
    """Return the arrays of a layer: its weights, or the constants that replace a BatchNorm."""
    if _has_constants(layer):
        return [np.asarray(layer.scale), np.asarray(layer.offset)]
    return [np.asarray(array) for array in layer.get_weights()]


def _put(layer: Any, arrays: list[Array]) -> None:
    if _has_constants(layer):
        layer.scale, layer.offset = (array.tolist() for array in arrays)
    elif arrays:
        set_weights(layer, arrays)


def _has_constants(layer: Any) -> bool:
    # A single number normalises pixels, and the architecture determines it.
    return type(layer).__name__ == "Rescaling" and np.ndim(layer.scale) > 0


def _variables(directory: str) -> dict[str, Array]:
    """Return the SavedModel's variables by their SHA-256, or raise an OSError."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(f"{directory.rstrip('/')}/variables/variables")
        values = [reader.get_tensor(name) for name in reader.get_variable_to_shape_map()]
    except (tf.errors.OpError, RuntimeError) as error:
        raise OSError(str(error)) from error
    return {_sha256(value): value for value in values if isinstance(value, np.ndarray)}


def _stored(version: Path) -> dict[str, Array]:
    """Return the arrays of ``weights.npz`` by their SHA-256."""
    path = version / FOLDER / WEIGHTS_FILE
    if not path.is_file():
        return {}
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        return {_sha256(array): array for array in file.values()}


def _array(arrays: Mapping[str, Array], key: str, layer: Any, version: Path) -> Array:
    if key not in arrays:
        raise _damaged(version, f"the weights of {layer.name} are not those that were exported")
    return arrays[key]


def _sha256(array: Array) -> str:
    # The shape is part of it: zeros of different shapes may have the same bytes.
    digest = hashlib.sha256(repr((array.shape, str(array.dtype))).encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
