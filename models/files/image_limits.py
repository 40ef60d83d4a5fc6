"""Limits of an image and of a request, which hold in training, in servers and in all commands."""

from __future__ import annotations

#: Largest number of pixels of an image that is decoded: by the checks, in training, by servers and
#: by all commands. Phones take 50, 64 and 108 million. In RGB they take 375 MB, which each core may
#: hold at a time; those that take 200 million write files that no request has room for.
PIXEL_LIMIT = 125_000_000
#: Largest size of a request unless a server is told otherwise, four times what our client sends at
#: once. TensorFlow Serving has no limit below gRPC's limit of 2 GiB: a request of 0.6 MB made it
#: allocate 1.45 GiB.
BODY_LIMIT = 64 << 20
