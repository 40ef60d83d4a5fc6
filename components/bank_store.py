"""The content-addressed store behind the feature bank: one sqlite file, keys to vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from components.blob_store import BlobStore


def record_key(image_hash: str, view_key: str) -> bytes:
    """Address of one vector: 32 bytes from the image's and the computation's own address."""
    return hashlib.sha256(f"{image_hash}:{view_key}".encode()).digest()


class FeatureStore:
    """Vectors by key, in ``<directory>/features.sqlite``; safe for several processes.

    Args:
      directory: created when absent.
      dim: length of every vector; records of another length count as absent.
    """

    def __init__(self, directory: Path, dim: int) -> None:
        self._dim = dim
        self._blobs = BlobStore(directory, "features")

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Vectors (float16 ``[dim]``) of those `keys` that are stored and intact."""
        return {
            key: np.frombuffer(value, "<f2")
            for key, value in self._blobs.get(keys).items()
            if len(value) == 2 * self._dim
        }

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep `vectors` (float16 ``[dim]`` each), in one transaction."""
        self._blobs.put({key: np.asarray(v, "<f2").tobytes() for key, v in vectors.items()})

    def close(self) -> None:
        """Let go of the file."""
        self._blobs.close()
