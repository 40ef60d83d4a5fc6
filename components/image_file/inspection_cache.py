"""What ingest found out of a file's content, kept by content across runs.

Hash and bytes are read anew each time; header, decoding, measurements and perceptual hashes are
looked up. The address holds everything that decides them, the code too: a changed judge is never
answered with an old verdict.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgpipe.components.blob_store import BlobStore
from imgpipe.components.image_file import header, measurements, perceptual_hash, reduction
from imgpipe.models import preprocess

_LIBRARIES = ("tensorflow", "pillow", "numpy")
_WRITE_AT_ONCE = 256  # verdicts a transaction


@functools.cache
def _code() -> str:
    """Address of what decides: our sources and the decoders' versions."""
    digest = hashlib.sha256()
    for module in (header, measurements, reduction, perceptual_hash, preprocess):
        digest.update(Path(str(module.__file__)).read_bytes())
    for library in _LIBRARIES:
        digest.update(importlib.metadata.version(library).encode())
    return digest.hexdigest()


class Verdicts:
    """Facts by content, in ``<directory>/verdicts.sqlite``; keeps nothing when directory is "".

    Used in a `with` block: what is new is written when the block ends, or before.
    """

    def __init__(self, directory: str, pixel_limit: int) -> None:
        self._blobs = BlobStore(Path(directory), "verdicts") if directory else None
        self._about = f"{_code()}:{pixel_limit}"
        self._fresh: dict[bytes, bytes] = {}

    def _key(self, image_hash: str) -> bytes:
        return hashlib.sha256(f"{image_hash}:{self._about}".encode()).digest()

    def get(self, image_hash: str) -> dict[str, Any] | None:
        """The facts of a content, None when they are not known."""
        if self._blobs is None or not image_hash:
            return None
        key = self._key(image_hash)
        value = self._blobs.get([key]).get(key)
        return json.loads(value) if value is not None else None

    def put(self, image_hash: str, facts: Mapping[str, Any]) -> None:
        """Keep the facts of a content."""
        if self._blobs is None or not image_hash:
            return
        self._fresh[self._key(image_hash)] = json.dumps(facts, sort_keys=True).encode()
        if len(self._fresh) >= _WRITE_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._blobs is not None and self._fresh:
            self._blobs.put(self._fresh)
            self._fresh = {}

    def __enter__(self) -> Verdicts:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        if self._blobs is not None:
            self._blobs.close()
