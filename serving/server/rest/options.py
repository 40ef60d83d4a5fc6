"""Settings of the REST interface."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_TIMEOUT_S = 30.0
DEFAULT_MAX_BODY_BYTES = 100 << 20
"""TensorFlow Serving's bound of a decompressed body (net_http/compression/gzip_zlib.h)."""


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
