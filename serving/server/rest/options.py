"""Limits of the REST interface."""

from __future__ import annotations

MAX_BODY_BYTES = 32 << 20
"""Largest size of the body of a request in bytes, both as it was sent and decompressed. TensorFlow
Serving allows 100 MiB after decompression (net_http/compression/gzip_zlib.h)."""
MAX_BODY_VALUES = 1_000_000
"""Largest number of numbers, strings, lists and objects in the JSON of a request, together. Parsing
this many takes 0.1 s and about 100 MB. Clients with more numbers can use gRPC."""
