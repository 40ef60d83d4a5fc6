"""The content-addressed store behind the feature bank: one sqlite file, keys to vectors."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.components.blob_store import BlobStore

if TYPE_CHECKING:
    from imgpipe.models.extractor import FeatureExtractor


@dataclass(frozen=True)
class Shapes:
    """What a backbone gives for one view: `dim` features, and activations (h, w, C) or ()."""

    dim: int
    activations: tuple[int, ...] = ()

    @property
    def activation_count(self) -> int:
        """Numbers in the activations of a view; 0 without any."""
        return math.prod(self.activations) if self.activations else 0


def record_key(image_hash: str, view_key: str) -> bytes:
    """Address of one vector: 32 bytes from the image's and the computation's own address."""
    return hashlib.sha256(f"{image_hash}:{view_key}".encode()).digest()


class FeatureStore:
    """Vectors by key, in ``<directory>/features.sqlite``; safe for several processes.

    Args:
      directory: created when absent.
    """

    def __init__(self, directory: Path) -> None:
        self._blobs = BlobStore(directory, "features")

    def get(self, keys: Sequence[bytes], length: int) -> dict[bytes, np.ndarray]:
        """Vectors (float16 ``[length]``) of those `keys` that are stored and intact."""
        return {
            key: np.frombuffer(value, "<f2")
            for key, value in self._blobs.get(keys).items()
            if len(value) == 2 * length
        }

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep `vectors` (float16, of any length), in one transaction."""
        self._blobs.put({key: np.asarray(v, "<f2").tobytes() for key, v in vectors.items()})

    def shapes(self, extractor: FeatureExtractor) -> Shapes | None:
        """What is kept of the extractor's shapes, which take a built model to find out."""
        key = _shapes_key(extractor)
        value = self._blobs.get([key]).get(key)
        if value is None:
            return None
        dim, activations = json.loads(value)
        return Shapes(dim, tuple(activations))

    def learn_shapes(self, extractor: FeatureExtractor) -> Shapes:
        """The extractor's shapes: those that are kept, or else of its model, and keep them."""
        known = self.shapes(extractor)
        if known is None:
            known = Shapes(extractor.dim, extractor.activation_shape)
            value = json.dumps([known.dim, list(known.activations)]).encode()
            self._blobs.put({_shapes_key(extractor): value})
        return known

    def close(self) -> None:
        """Let go of the file."""
        self._blobs.close()


def _shapes_key(extractor: FeatureExtractor) -> bytes:
    return record_key("shapes", extractor.key(0) + extractor.key(0, extractor.tap))
