"""The answers of the look at the bytes of a file, as functions."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from imgpipe.components.common.image_file import content, header
from imgpipe.serving.look import Look


def size(data: bytes) -> tuple[int, int]:
    """Return the width and the height in the header."""
    return Look(data).size


def pixels(data: bytes) -> int | None:
    """Return the number of pixels that are decoded; None if it is unknown."""
    return Look(data).pixels or None


def hidden_cost(data: bytes) -> str:
    """Return why a file costs more than its pixels."""
    return Look(data).hidden_cost


def probe(data: bytes, pixel_limit: int) -> header.Header:
    """Return the header."""
    return header.probe(Look(data), pixel_limit)


def decode(data: bytes) -> tuple[np.ndarray | None, str]:
    """Return the pixels that the serving op decodes, or why it refuses the file."""
    return content.decode(Look(data))


def reason(data: bytes, converted: Container[str] = ()) -> str:
    """Return why a model that cannot decode a file refuses it."""
    return Look(data).refusal(converted)
