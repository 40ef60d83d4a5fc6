"""Reads the bytes of images that are named on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from imgpipe.components.common.image_file.content import decode
from imgpipe.components.common.image_file.header import probe
from imgpipe.components.common.image_file.transcoding import for_the_model
from imgpipe.components.example_gen.sources.local_files import BYTE_LIMIT
from imgpipe.models.files.regular_files import read_bytes


def read(paths: Sequence[Path], pixel_limit: int) -> Iterator[tuple[Path, bytes, str]]:
    """Read image files and check that the served model could decode them.

    Args:
        paths: Paths of the files.
        pixel_limit: Most pixels of an image that is decoded.

    Yields:
        Path, content, and the reason why the image cannot be decoded, "" if it can.
    """
    for path in paths:
        try:
            data = read_bytes(path, BYTE_LIMIT)
        except OSError as error:
            yield path, b"", error.strerror or str(error)
            continue
        # The header is read first, because decoding a few bytes may take gigabytes of memory.
        header = probe(data, pixel_limit)
        if header.hidden_cost:
            yield path, b"", header.hidden_cost
        elif header.pixels > pixel_limit:
            yield path, b"", f"{header.size_in_words} pixels are over judge.pixel_limit"
        else:
            data = for_the_model(data, pixel_limit)
            yield path, data, decode(data)[1]
