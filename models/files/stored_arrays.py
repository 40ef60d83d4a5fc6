"""Arrays by name in a file below a SavedModel, which may be in an object store."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from imgpipe.models.arrays import Array
from imgpipe.models.errors import ResourceError


def write(directory: str, name: str, arrays: Mapping[str, Array | float]) -> None:
    """Write arrays, or numbers, into a file of this name below a folder."""
    import tensorflow as tf

    path = f"{directory.rstrip('/')}/{name}"
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    content = io.BytesIO()  # NumPy must seek in the file, which TensorFlow's files cannot do
    np.savez(content, allow_pickle=False, **arrays)
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content.getvalue())


def read(directory: str, name: str, holds: str) -> dict[str, Array] | None:
    """Read such a file; None if there is none. `holds` says what is in it, for people.

    Raises:
        ResourceError: The file is damaged.
    """
    import tensorflow as tf

    path = f"{directory.rstrip('/')}/{name}"
    if not directory or not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as file, np.load(io.BytesIO(file.read())) as stored:
            return dict(stored)
    except Exception as error:  # NumPy, zipfile and zlib raise errors of many kinds
        raise ResourceError(
            f"{path} is damaged ({type(error).__name__}: {error}). It holds {holds}"
        ) from error
