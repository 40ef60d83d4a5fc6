"""Weights from a local file: Keras reads it, after checks that Keras does not make.

The network is built by our own code, and Keras' `load_weights` only reads arrays. It runs nothing
from the file, and refuses links, data of other files and shapes that claim more than it holds.
Accepted files are Keras 3 weights (`.weights.h5`) and the weights inside a `.keras` archive.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.models.errors import ResourceError, UnsafeWeightsError

if TYPE_CHECKING:
    import keras


def check_whole(path: Path) -> None:
    """Refuse a file that is cut short or is no file of weights, without reading the weights.

    A file that does not exist is passed over: whoever hashes it says so.
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

    The model has layers of Keras and must not be used after an error. The SHA-256 of the file has
    been checked. It raises a ResourceError if the weights are those of another network, and an
    UnsafeWeightsError if the file is damaged, or holds something that is not allowed or not finite.
    """
    try:
        # Keras only warns of models inside the model whose weights it does not find.
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
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


def _damaged(path: Path, error: Exception) -> UnsafeWeightsError:
    return UnsafeWeightsError(
        f"{path}: expected a whole file of Keras weights (.weights.h5 or .keras). Save or "
        "download it again. Received: one that is damaged or not allowed "
        f"({type(error).__name__}: {_short(str(error))})"
    )


def _of_another_network(model: keras.Model, path: Path, reason: str) -> ResourceError:
    return ResourceError(f"model.weights: {path} is not of {model.name}: {_short(reason)}")


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
