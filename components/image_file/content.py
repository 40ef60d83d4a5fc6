"""What the content of one encoded image is: its pixels as the serving op decodes them, measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from imgpipe.components.image_file.header import pillow
from imgpipe.components.image_file.measurements import Measurement, measure
from imgpipe.components.image_file.perceptual_hash import perceptual_hashes
from imgpipe.components.image_file.pixels import Pixels
from imgpipe.models import preprocess

_WITH_ALPHA = ("RGBA", "LA", "PA")  # Pillow's modes


@dataclass(frozen=True)
class Content:
    """Size, measurements and perceptual hash of an image that was decoded."""

    width: int  # pixels
    height: int
    figures: Mapping[str, float] = field(default_factory=dict)
    perceptual_hash: bytes = b""

    @classmethod
    def of(cls, pixels: Pixels, measurements: Iterable[Measurement]) -> Content:
        """Measure decoded pixels."""
        height, width = pixels.values.shape[:2]
        return cls(width, height, measure(pixels, measurements), perceptual_hashes(pixels.small))

    @classmethod
    def decoded(
        cls, data: bytes, measurements: Iterable[Measurement]
    ) -> tuple[Content | None, str]:
        """Decode and measure an encoded image; (None, error) where the serving op refuses it."""
        values, error = decode(data)
        return (None, error) if values is None else (cls.of(Pixels(values), measurements), "")


def transcoded(
    data: bytes, original: bytes, mode: str, measurements: Iterable[Measurement]
) -> tuple[Content | None, str]:
    """Decode and measure a transcoded image.

    Args:
        data: The image as the serving op decodes it, without an alpha channel.
        original: The file that it was made from, whose alpha channel counts.
        mode: Pillow's mode of the original.
        measurements: What is measured.

    Returns:
        The content, or None and the error of the op.
    """
    values, error = decode(data)
    if values is None:
        return None, error
    alpha = None
    if mode in _WITH_ALPHA:
        with pillow(original) as image:
            alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return Content.of(Pixels(values, alpha), measurements), ""


def decode(data: bytes) -> tuple[np.ndarray | None, str]:
    """The pixels of an encoded image as the serving op decodes them.

    Returns:
        (uint8 [H, W, 3], "") or (None, the first line of the op's error).
    """
    import tensorflow as tf

    if not data:
        return None, "the file is empty"
    try:
        with tf.device("cpu"):
            return preprocess.decode(tf.constant(data)).numpy(), ""
    except tf.errors.OpError as error:
        return None, first_line(error)


def alpha_channel(data: bytes, kind: str, mode: str) -> np.ndarray | None:
    """The alpha channel of a PNG, uint8 [H, W]; None where it has none that can be read.

    Other formats have none that matters: the serving op refuses WebP with an alpha channel, and
    the transparent colour of a GIF is mostly its page.

    Args:
        data: The encoded file.
        kind: Pillow's name of its format.
        mode: Pillow's mode.
    """
    import tensorflow as tf

    if kind != "PNG":
        return None
    if mode not in _WITH_ALPHA and b"tRNS" not in data[: max(data.find(b"IDAT"), 0)]:
        return None
    try:
        with tf.device("cpu"):
            return np.asarray(tf.io.decode_png(tf.constant(data), channels=4)[..., 3])
    except tf.errors.OpError:
        return None


def first_line(error: BaseException) -> str:
    """TensorFlow's message without graph node names and op suffixes."""
    text = str(getattr(error, "message", None) or error)
    text = re.sub(r"\{\{[^}]*\}\}|\[Op:\w+\]( name:)?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
