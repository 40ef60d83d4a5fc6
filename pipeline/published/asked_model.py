"""Asks a model in this process about image files, within the limits of a server.

A file of a format that only Pillow reads is converted, as a run converts it before training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgpipe.components.common.image_file.content import for_the_model
from imgpipe.components.common.image_file.header import converted_formats, probe
from imgpipe.models.names import feature_names as names
from imgpipe.serving.client import InvalidArgument
from imgpipe.serving.look import PIXEL_LIMIT, Look, in_words, too_many_pixels
from imgpipe.serving.served import Served
from imgpipe.serving.server import limits, status


def ask(served: Served, images: Sequence[bytes]) -> tuple[dict[str, np.ndarray], list[bytes]]:
    """Return the outputs of a signature for encoded images, and the images as it decoded them.

    Args:
        served: A signature that takes encoded images.
        images: The content of each file.

    Raises:
        InvalidArgument: The model refuses an image, for the reason in the message.
    """
    # A format that no model knows is converted at once.
    decodable = [image if Look(image).format else _converted(image) for image in images]
    try:
        return _answer(served, decodable), decodable
    except InvalidArgument:
        if len(decodable) > 1:  # it is not yet known which one the model refuses
            raise
        pixels = probe(Look(decodable[0]), PIXEL_LIMIT).pixels
        if pixels > PIXEL_LIMIT:
            raise InvalidArgument(too_many_pixels(pixels, PIXEL_LIMIT)) from None
        converted = [_converted(decodable[0])]
        if converted == decodable:
            raise
    return _answer(served, converted), converted


def _converted(image: bytes) -> bytes:
    return for_the_model(image, PIXEL_LIMIT)


def _answer(served: Served, images: Sequence[bytes]) -> dict[str, np.ndarray]:
    import tensorflow as tf

    encoded = np.array(images, dtype=object)
    try:
        limits.row_pixels(names.IMAGE_BYTES, encoded, PIXEL_LIMIT)
        limits.check_hidden_costs({names.IMAGE_BYTES: encoded})
        return served.run(image_bytes=encoded)
    except (status.StatusError, tf.errors.InvalidArgumentError) as error:
        formats = converted_formats()
        why = in_words(status.from_exception(error).message, images, formats)
        raise InvalidArgument(why) from error
