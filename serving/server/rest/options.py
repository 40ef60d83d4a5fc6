"""Settings of the REST interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_TIMEOUT_S = 30.0
DEFAULT_MAX_BODY_BYTES = 32 << 20
"""TensorFlow Serving allows 100 MiB after decompression (net_http/compression/gzip_zlib.h)."""
DEFAULT_MAX_BODY_VALUES = 1_000_000
"""Parsing this many values takes 0.1 s and about 100 MB. Clients with more numbers can use gRPC."""


@dataclass(frozen=True)
class RestOptions:
    """Port and limits of the REST interface, and the parts of it that are enabled."""

    port: int
    """Port to listen on; 0 for any free port."""
    timeout: float = DEFAULT_TIMEOUT_S
    """Seconds from the head of a request to its answer."""
    cors: bool = False
    """Whether web pages of other sites may call the REST interface."""
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    """Largest size of the body of a request in bytes, both as it was sent and decompressed."""
    max_body_values: int = DEFAULT_MAX_BODY_VALUES
    """Largest number of numbers, strings, lists and objects in the JSON of a request, together."""
    web: bool = False
    """Whether ``/`` is a page on which people can try the models."""
    collect: Path | None = None
    """Folder for images whose labels people correct on the page; None collects none."""
