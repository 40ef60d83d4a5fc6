"""Archives of arrays (``.npz``), which NumPy, zipfile and zlib read together."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def write(path: str, arrays: Mapping[str, Any]) -> None:
    """Write arrays, or values that NumPy makes arrays of, into an archive in an existing folder."""
    import tensorflow as tf

    content = io.BytesIO()  # NumPy must seek in the file, which TensorFlow's files cannot do
    np.savez(content, **arrays)
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content.getvalue())


def read(path: str) -> dict[str, npt.NDArray[Any]] | None:
    """Read the arrays of an archive; None where there is none, or it is damaged."""
    import tensorflow as tf

    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = io.BytesIO(file.read())
        with np.load(content, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception:  # NumPy, zipfile and zlib raise errors of many kinds for a damaged archive
        return None
