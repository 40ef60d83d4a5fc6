"""Weights from a local file: Keras reads it, after checks that Keras does not make.

The network is built by our own code, and Keras' `load_weights` only reads arrays. It runs nothing
from the file, and refuses links, data of other files and shapes that claim more than it holds.
Accepted files are Keras 3 weights (`.weights.h5`), weights of older Keras versions (`.h5`), and
the weights inside a `.keras` archive.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.models.errors import ResourceError, UnsafeWeightsError

if TYPE_CHECKING:
    import h5py
    import keras


def check_whole(path: Path) -> None:
    """Refuse a file that is cut short or is no file of weights, without reading the weights.

    A file that does not exist is passed over: whoever hashes it says so.

    Raises:
        UnsafeWeightsError: It is such a file.
    """
    import h5py

    if not path.is_file():
        return
    try:
        if path.suffix == ".keras":
            zipfile.ZipFile(path).close()
        else:
            h5py.File(path, "r").close()
    except (OSError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def load(model: keras.Model, path: Path) -> None:
    """Load the weights of a file into the layers of a model.

    A classifier in the file is ignored when the model has none.

    The model has layers of Keras and must not be used after an error. The SHA-256 of the file has
    been checked. It raises a ResourceError if the weights are those of another network, and an
    UnsafeWeightsError if the file is damaged, is a whole model, or holds something that is not
    allowed or not finite.
    """
    try:
        # Keras only warns of models inside the model whose weights it does not find.
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            if path.suffix == ".h5" and not path.name.endswith(".weights.h5"):
                _load_legacy(model, path)
            else:
                model.load_weights(path)
        for message in (str(warning.message) for warning in warned):
            if message.startswith("Skipping nested container"):
                raise _of_another_network(model, path, message)
    except ResourceError:
        raise
    except Exception as error:  # Keras, h5py and zipfile raise errors of many kinds
        if isinstance(error, ValueError) and "Not allowed" not in str(error):
            raise _of_another_network(model, path, str(error)) from error
        raise _damaged(path, error) from error
    for layer in model.layers:
        for weight, array in zip(layer.weights, layer.get_weights(), strict=True):
            if not np.isfinite(array).all():
                raise UnsafeWeightsError(
                    f"{path}: {layer.name}: expected finite numbers. Received: NaN or infinity "
                    f"in {weight.name}; the training that made this file had diverged"
                )


def _load_legacy(model: keras.Model, path: Path) -> None:
    """Load weights of Keras 1 and 2, which are stored by layer, by their order or their names."""
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" in file.attrs:
            raise UnsafeWeightsError(
                f"{path}: is a whole model; loading one can run code. Expected: its weights alone. "
                "Where you trust the model, load it and call model.save_weights('NAME.weights.h5')"
            )
        stored = [name for name in _strings(file, "layer_names") if _strings(file[name])]
    holders = [layer.name for layer in model.layers if layer.weights]
    # "conv2d_17" of a long session is "conv2d" here, so that the order decides. With a classifier
    # only the names can, and Keras passes over those that it does not find.
    by_name = len(stored) != len(holders)
    missing = sorted(set(holders) - set(stored))
    if by_name and missing:
        raise _of_another_network(model, path, f"the file has no layers {', '.join(missing[:8])}")
    model.load_weights(path, by_name=by_name)


def _damaged(path: Path, error: Exception) -> UnsafeWeightsError:
    return UnsafeWeightsError(
        f"{path}: expected a whole file of Keras weights (.weights.h5, .h5 or .keras). Save or "
        "download it again. Received: one that is damaged or not allowed "
        f"({type(error).__name__}: {_short(str(error))})"
    )


def _of_another_network(model: keras.Model, path: Path, reason: str) -> ResourceError:
    return ResourceError(
        f"model.weights: {path} is not of {model.name} as it was set (name, width): "
        f"{_short(reason)}"
    )


def _short(text: str) -> str:
    return " ".join(text.split())[:300]


def _strings(group: h5py.Group, name: str = "weight_names") -> list[str]:
    """Return a list of names; Keras splits a long list into several attributes."""
    parts: list[Any] = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{name}{len(parts)}"])
    return [text.decode() if isinstance(text, bytes) else text for part in parts for text in part]
