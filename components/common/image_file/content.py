"""The content of an image file: what is measured in its pixels, and the file as PNG.

A file that only Pillow reads is converted to PNG without loss, and measured as the model then reads
it. A run trains on the converted images. Whoever asks its model about a file of such a format
therefore has to convert it in the same way, which the commands and the Python functions do.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np

from imgpipe.components.common.image_file.damage import MOST_BANDS, damage, unread
from imgpipe.components.common.image_file.header import (
    Header,
    alpha_channel,
    as_png,
    by_pillow,
    converted_formats,
    no_memory,
    probe,
)
from imgpipe.components.common.image_file.pixels import Pixels, measure, perceptual_hashes
from imgpipe.models import names, preprocess
from imgpipe.serving.look import EMPTY, Look

#: Pillow's modes of grey images.
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
#: Four levels of 255: JPEG changes grey by that much. A faded photograph has 20 or more.
_COLOURED = 0.016


def for_the_model(data: bytes, pixel_limit: int) -> bytes:
    """Return a file as the served model reads it: as PNG if only Pillow reads it.

    Args:
        data: The encoded file; it is returned unchanged when nothing reads it.
        pixel_limit: Number of pixels above which a file is not decoded.
    """
    look = Look(data)
    header = probe(look, pixel_limit)
    if header.hidden_cost or header.pixels > pixel_limit or decode(look) is not None:
        return data
    image, _ = by_pillow(look)
    return data if image is None else as_png(image)


#: The measurements of files that were not decoded, of which there is one for all rows: of 100,000
#: rows, a dictionary each takes 6.4 MB.
NOT_MEASURED: Final[Mapping[str, float]] = {}


def field_values(header: Header) -> dict[str, Any]:
    """Return the fields of a header or a content by name; `dataclasses.asdict` would copy them."""
    return {each.name: getattr(header, each.name) for each in dataclasses.fields(header)}


@dataclass(slots=True, kw_only=True)
class Content(Header):
    """What depends on the bytes of a file alone, and not on its name, its label or its split.

    The size is that of the decoded pixels, or of the header when the file was not decoded.

    Attributes:
        decode_error: Why the serving op cannot decode the file, or why nobody reads it; "" when the
            op can.
        converted: The file as Pillow describes it, such as "TIFF (RGB)", if only Pillow reads it,
            so that it is measured, and given to the model, as PNG; otherwise "".
        unread: Why nobody reads the file: "not_an_image", "truncated" or "undecodable"; "" when it
            is read, or was not to be decoded.
        remedy: What to do about such a file, if it is not what is said of all.
        damage: Sign that the pixels of a readable file are wrong; "" for none.
        is_grey: Whether the pixels are grey, even if they are stored with colour channels.
        figures: Values by measurement, rounded to 32 bits as an Example stores them; empty when
            the file was not decoded.
        perceptual_hash: Perceptual hashes, b"" when the file was not decoded.
    """

    decode_error: str = ""
    converted: str = ""
    unread: str = ""
    remedy: str = ""
    damage: str = ""
    is_grey: bool = False
    figures: Mapping[str, float] = field(default_factory=lambda: NOT_MEASURED)
    perceptual_hash: bytes = field(default=b"", repr=False)

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads: a line of JSON, and the perceptual hashes."""
        values = field_values(self)
        hashes: bytes = values.pop("perceptual_hash")
        return json.dumps(values).encode() + b"\n" + hashes

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """Convert back from `to_bytes`."""
        values, _, hashes = stored.partition(b"\n")
        return cls(**json.loads(values), perceptual_hash=hashes)

    @property
    def is_measured(self) -> bool:
        """Whether the pixels were decoded and measured."""
        return bool(self.figures)

    def measured(self, values: np.ndarray, original: bytes) -> Content:
        """Return this content with the size, measurements and perceptual hashes of its pixels.

        The pixels are uint8 [H, W, 3]; the original is the file that was found, for the alpha
        channel.
        """
        height, width = values.shape[:2]
        pixels = Pixels(values, alpha_channel(original, self.format, self.mode))
        figures = measure(pixels)
        return dataclasses.replace(
            self,
            width=width,
            height=height,
            is_grey=self.mode in GREY_MODES or figures[names.COLOUR] <= _COLOURED,
            figures=figures,
            perceptual_hash=perceptual_hashes(pixels),
        )


def inspected(look: Look, pixel_limit: int) -> Content:
    """Read the header of a file, decode it, look for damage and measure its pixels.

    A file that the serving op refuses is converted to PNG if Pillow reads it.

    Args:
        look: The look at the file.
        pixel_limit: Largest number of pixels, according to the header, that is decoded.
    """
    header = probe(look, pixel_limit)
    content = Content(**field_values(header))
    why = header.hidden_cost or _why_not_decoded(header, look.pixels, pixel_limit)
    if not look.data or header.hidden_cost or header.pixels > pixel_limit:
        content.decode_error = why or EMPTY
        return content
    values = None
    if not why:
        values = decode(look)
        content.damage = damage(look, header.format, is_decoded=values is not None)
    if values is None:
        image, said = by_pillow(look)
        if image is None or header.bands > MOST_BANDS:
            content.unread, content.decode_error, content.remedy = unread(look, header, said)
            return content
        # Writing it as PNG and decoding that gives the same pixels.
        values = np.asarray(image)
        content.converted = said
        content.decode_error = why or look.refusal(converted_formats())
    return content.measured(values, look.data)


def _why_not_decoded(header: Header, pixels: int, pixel_limit: int) -> str:
    """Say why a file of this number of pixels is not passed to the decoder, "" if it is."""
    if max(header.pixels, pixels) <= pixel_limit:
        return ""
    several = f"{header.frames} frames of " if header.frames > 1 else ""
    size = f"{several}{header.size_in_words}"
    return f"not decoded: {size} pixels are over the limit of {pixel_limit:,}"


def decode(look: Look) -> np.ndarray | None:
    """Decode an encoded image as the served model does.

    Returns:
        The pixels, uint8 [H, W, 3], or None if the file is refused, as `Look.refusal` explains.

    Raises:
        ResourceError: There is not enough memory.
    """
    import tensorflow as tf

    if look.certain_refusal(converted_formats()):
        return None
    try:
        with tf.device("cpu"):
            pixels: np.ndarray = preprocess.decode(tf.constant(look.data)).numpy()
            return pixels
    except tf.errors.ResourceExhaustedError as error:
        raise no_memory(error) from error
    except tf.errors.OpError:
        return None
