"""The inspection cache, which keeps decode results by content across runs.

Files are read and hashed in every run; header, decode result, measurements and perceptual hashes
are looked up. The key includes everything that determines them, also the code, so that changed
code never gets an old result.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from typing import Any

from imgpipe.components.image_record import ImageRecord
from imgpipe.components.storage.blob_store import BlobStore
from imgpipe.models.files import source_code

#: Name of the `BlobStore`.
STORE = "verdicts"
#: Part of every key: the code that reads, decodes and measures a file.
CODE = (
    "components/image_file",
    "components/image_filter/check.py",
    "components/image_filter/checks",
    "models/preprocess.py",
    "serving/image_header.py",
)
_LIBRARIES = ("tensorflow", "pillow", "numpy")  # they decode, read headers and measure
_WRITE_AT_ONCE = 256  # results that are written together
#: Fields of a record that depend on the content of the file alone.
_CONTENT = (
    *("width", "height", "channels", "format", "mode", "frames", "orientation"),
    *("decode_error", "figures"),
)


class InspectionCache:
    """Results by content in ``<directory>/verdicts``.

    Use it in a `with` block; new results are written at the end of the block at the latest.

    Args:
        directory: Folder of the store, as `BlobStore` takes it. "" keeps nothing.
        pixel_limit: Largest number of pixels that is decoded; part of the key.
        as_served: As for `Inspection`; part of the key.
    """

    def __init__(self, directory: str, pixel_limit: int, as_served: bool = False) -> None:
        self._blobs = BlobStore(directory, STORE) if directory else None
        self._key_suffix = f"{source_code.fingerprint(CODE, _LIBRARIES)}:{pixel_limit}:{as_served}"
        self._unwritten: dict[bytes, bytes] = {}

    def _key(self, image_hash: str) -> bytes:
        return hashlib.sha256(f"{image_hash}:{self._key_suffix}".encode()).digest()

    def complete(self, record: ImageRecord) -> ImageRecord | None:
        """Complete a record with the stored result of its content; None when there is none."""
        if self._blobs is None or not record.image_hash:
            return None
        key = self._key(record.image_hash)
        value = self._blobs.get([key]).get(key)
        if value is None:
            return None
        known: dict[str, Any] = json.loads(value)
        hashes = known.pop("perceptual_hash")
        known["perceptual_hash"] = None if hashes is None else base64.b64decode(hashes)
        return dataclasses.replace(record, **known)

    def put(self, record: ImageRecord) -> None:
        """Store the fields of the record that depend on its content alone."""
        if self._blobs is None or not record.image_hash:
            return
        values = {name: getattr(record, name) for name in _CONTENT}
        hashes = record.perceptual_hash
        values["perceptual_hash"] = None if hashes is None else base64.b64encode(hashes).decode()
        key = self._key(record.image_hash)
        self._unwritten[key] = json.dumps(values, sort_keys=True).encode()
        if len(self._unwritten) >= _WRITE_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._blobs is not None and self._unwritten:
            self._blobs.put(self._unwritten)
            self._unwritten = {}

    def __enter__(self) -> InspectionCache:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
