"""The ``.keras`` file of a network, which older versions of Keras 3 read too.

Keras writes everything that it knows into the configuration of a layer, and an older version
refuses what it does not know: a new parameter, even if it is unused, a new parameter of an
initialiser, or the name of an operation. So the configuration is written without what Keras assumes
anyway, and the head is one layer.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imgpipe.models.model_names import HEAD, PROBABILITIES
from imgpipe.models.network.classifier import Classifier

if TYPE_CHECKING:
    import keras

#: Key of the class names in the configuration; Keras ignores it.
CLASSES: Final = "classes"
_CONFIGURATION: Final = "config.json"  # in the archive
_OPERATIONS: Final = "keras.src.ops."  # modules of operations that are no layers


def plain_network(classifier: Classifier) -> keras.Model:
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


def content(network: keras.Model, vocabulary: Sequence[str]) -> bytes:
    """Return the ``.keras`` file of a network.

    Args:
        network: The network.
        vocabulary: Class names, in the order of its output. ``config.json`` in the file lists them
            as ``classes``.
    """
    written = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        file = Path(folder) / "model.keras"  # Keras saves to paths only, and looks at the ending
        network.save(file)
        with zipfile.ZipFile(file) as saved, zipfile.ZipFile(written, "w") as archive:
            for entry in saved.infolist():
                part = saved.read(entry)
                if entry.filename == _CONFIGURATION:
                    configuration = {**_plain(json.loads(part)), CLASSES: list(vocabulary)}
                    part = json.dumps(configuration, ensure_ascii=False).encode("utf-8")
                archive.writestr(entry, part)
    return written.getvalue()


def _plain(value: Any) -> Any:
    """Return a value of the configuration as every version of Keras 3 reads it."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "DTypePolicy":
        return value["config"]["name"]
    plain = {key: _plain(each) for key, each in value.items()}
    if {"module", "class_name", "config"} <= value.keys() and isinstance(value["config"], dict):
        defaults = _defaults(str(value["module"]), value["class_name"])
        plain["config"] = {
            key: plain["config"][key]
            for key, given in value["config"].items()
            if not _is_assumed(key, given, defaults)
        }
        if str(value["module"]).startswith(_OPERATIONS):
            # Older operations take no name. The graph has its own, beside the configuration.
            plain["config"].pop("name", None)
    return plain


def _is_assumed(key: str, given: Any, defaults: dict[str, Any]) -> bool:
    """Return whether a parameter may be left out of a configuration.

    Initialisers may, too, because the file contains the weights.
    """
    if key not in defaults:
        return False
    default = defaults[key]
    return key.endswith("_initializer") or given == (
        list(default) if isinstance(default, tuple) else default
    )


def _defaults(module: str, name: str) -> dict[str, Any]:
    """Return the defaults of the parameters of a class of Keras; nothing for other classes."""
    if module.partition(".")[0] != "keras":
        return {}
    made = getattr(importlib.import_module(module), name, None)
    if made is None:
        return {}
    parameters = inspect.signature(made.__init__).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}
