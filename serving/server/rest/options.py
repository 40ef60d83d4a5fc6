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
    """Where and how the REST interface listens."""

    port: int
    """0 takes any free one."""
    timeout: float = DEFAULT_TIMEOUT_S
    """Seconds from the head of a request to its answer."""
    cors: bool = False
    """Pages of other sites may call it."""
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    """Of one request, as sent and when decompressed."""
    max_body_values: int = DEFAULT_MAX_BODY_VALUES
    """Numbers, strings, lists and objects in the JSON of one request, together."""
    web: bool = False
    """Whether ``/`` is a page on which people can try the models."""
    collect: Path | None = None
    """Folder for images whose labels people correct on the page; None collects none."""
    training_images: Path | None = None
    """File of training images, of which the page shows the nearest; None shows none."""
