"""The content-addressed store of the feature bank: features by key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.components.common.storage.blob_store import BlobStore

if TYPE_CHECKING:
    from imgpipe.models.features.extractor import FeatureExtractor

#: Name of the `BlobStore`.
STORE = "features"


def record_key(image_hash: str, view_key: str) -> bytes:
    """Key of one stored array, 32 bytes.

    Args:
        image_hash: Content hash of the image.
        view_key: Fingerprint of the computation, as `FeatureExtractor.key` returns it.
    """
    return hashlib.sha256(f"{image_hash}:{view_key}".encode()).digest()


class FeatureStore:
    """Arrays by key, safe for several processes and hosts.

    Args:
        directory: Folder of the store, as `BlobStore` takes it.
    """

    def __init__(self, directory: str | Path) -> None:
        self._blobs = BlobStore(directory, STORE)

    def get(self, keys: Sequence[bytes], length: int) -> dict[bytes, np.ndarray]:
        """Look arrays up.

        Args:
            keys: Keys as `record_key` returns them.
            length: Number of values in each array; stored arrays of other lengths are ignored.

        Returns:
            Arrays, float16 [length], of those keys that are stored and intact.
        """
        return {
            key: np.frombuffer(value, "<f2")  # float16 in the same byte order on every host
            for key, value in self._blobs.get(keys).items()
            if len(value) == 2 * length
        }

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Store `vectors` (float16, of any length) by key."""
        self._blobs.put({key: np.asarray(v, "<f2").tobytes() for key, v in vectors.items()})

    def learn_sizes(self, extractor: FeatureExtractor) -> tuple[int, ...]:
        """Return the sizes of an extractor's blocks, which are slow to compute, and store them."""
        key = record_key("sizes", extractor.key(0))
        value = self._blobs.get([key]).get(key)
        if value is None:
            value = json.dumps(extractor.sizes).encode()
            self._blobs.put({key: value})
        return tuple(json.loads(value))
