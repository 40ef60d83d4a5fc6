"""How many parts of image files are followed: markers, chunks, sub-blocks and boxes.

Python follows each of them alone. Files with very many are made to take time, one by one or in the
many rows of a request.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MOST_PARTS = 300_000
"""Parts of a file that are followed, except in large GIFs; see `LEAST_PART`."""
LEAST_PART = 200
"""Mean size in bytes of the parts of a GIF, or of the files of a request, from which any number of
them is followed. Sub-blocks that an encoder writes have 255 bytes."""
_together = threading.local()


class NotFollowed(Exception):
    """A file goes on further than it is read, for the reason in the message."""


class TooManyParts(NotFollowed):
    """A file has more parts than are followed.

    Args:
        most: Number of parts that are followed.
    """

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most:,} parts")


@contextmanager
def parts_together(size: int) -> Iterator[None]:
    """Limit the parts of all files that this thread looks at in the block, together.

    Args:
        size: Number of bytes of all files.
    """
    _together.left = MOST_PARTS + size // LEAST_PART
    try:
        yield
    finally:
        del _together.left


def followed(most: int) -> Iterator[None]:
    """Yield once for each part of a file that may be followed.

    Raises:
        TooManyParts: There are more than `most`, or than `parts_together` leaves.
    """
    allowed = min(most, getattr(_together, "left", most))
    left = allowed
    try:
        while left > 0:
            left -= 1
            yield
    finally:
        if hasattr(_together, "left"):
            _together.left -= allowed - left
    raise TooManyParts(most)
