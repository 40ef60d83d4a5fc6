"""Limits of a request: pixels of each image and of all together, checked before they are decoded.

A PNG of a few kilobytes can contain 16000 x 16000 pixels and take 3,000 times its size in memory
when the graph decodes it. The header tells the size beforehand (``image_header``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from imgpipe.serving.image_header import pixels
from imgpipe.serving.server.status import invalid
from imgpipe.serving.server.storage import IMAGE_INPUT

_MEGA = 1_000_000
_EXAMPLES = "examples"
"""The usual name of the input of serialized tf.Examples."""
_IMAGES = 40
"""How many images of the largest size one request may contain."""
MAX_ROWS = 16_384
"""Rows of one request, whose outputs are in memory together."""
_SLICE_ROWS = 64
"""Rows that run at once, with no more pixels than one image may have; more were not faster. Without
the limit of pixels, six requests with many large images kept all others waiting for 11 to 15
seconds."""


def row_pixels(alias: str, value: np.ndarray, most: int) -> list[int]:
    """Return how many pixels the images in each row of an input have; 0 for other inputs.

    Args:
        alias: Name of the input in the signature.
        value: Array of any shape; strings and encoded images are an object array of bytes.
        most: Largest allowed number of pixels of an image; 0 for any, and then none are counted.

    Returns:
        One number for each row; a single value counts as one row.

    Raises:
        StatusError: INVALID_ARGUMENT, an image or all of them together are too large.
    """
    rows = value.reshape(len(value), -1) if value.ndim and len(value) else value.reshape(1, -1)
    if not most or value.dtype != object or alias not in (IMAGE_INPUT, _EXAMPLES):
        return [0] * len(rows)
    counts = [sum(_pixels(alias, item, most) for item in row) for row in rows]
    if sum(counts) > _IMAGES * most:
        raise invalid(
            f"The images of the request have {sum(counts) / _MEGA:,.0f} million pixels together; "
            f"{_IMAGES * most / _MEGA:,.0f} million are allowed. Send fewer images at once."
        )
    return counts


def _pixels(alias: str, item: bytes, most: int) -> int:
    total = 0
    for image in [item] if alias == IMAGE_INPUT else _example_images(item):
        count = pixels(image) or 0
        if count > most:
            raise invalid(
                f"An image in {alias} has {count / _MEGA:.1f} million pixels; at most "
                f"{most / _MEGA:g} million are allowed. Send a smaller image."
            )
        total += count
    return total


def slices(counts: Sequence[int], most: int) -> Iterator[slice]:
    """Yield the rows of a request that run at once, in order, given the pixels of each row.

    Raises:
        StatusError: INVALID_ARGUMENT, there are more than ``MAX_ROWS`` rows.
    """
    if len(counts) > MAX_ROWS:
        raise invalid(
            f"The request has {len(counts):,} rows; {MAX_ROWS:,} are allowed. Send fewer rows at "
            "once."
        )
    begin = total = 0
    for at, count in enumerate(counts):
        too_large = most and total + count > most
        if at - begin == _SLICE_ROWS or (too_large and at > begin):
            yield slice(begin, at)
            begin, total = at, 0
        total += count
    yield slice(begin, len(counts))


def _example_images(item: bytes) -> list[bytes]:
    """Return the images in a serialized tf.Example; none if a graph cannot read the bytes."""
    import tensorflow as tf

    if IMAGE_INPUT.encode() not in item:
        return []
    try:  # a graph accepts features whose names are not UTF-8, which protobuf refuses
        found = tf.io.parse_single_example(item, {IMAGE_INPUT: tf.io.VarLenFeature(tf.string)})
    except tf.errors.InvalidArgumentError:
        return []
    return list(found[IMAGE_INPUT].values.numpy())
