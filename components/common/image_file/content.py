"""The content of an image file: what is measured in its pixels, and the file as PNG.

A file that only Pillow reads is converted to PNG without loss, and measured as the model then reads
it. A run trains on the converted images. Whoever asks its model about a file of such a format
therefore has to convert it in the same way, which the commands and the Python functions do.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from PIL import TiffImagePlugin

from imgpipe.components.common.image_file.header import (
    Header,
    as_png,
    by_pillow,
    converted_formats,
    damage,
    pillow,
    probe,
)
from imgpipe.components.common.image_file.pixels import Pixels, measure, perceptual_hashes
from imgpipe.components.common.image_file.unread import MOST_BANDS, unread
from imgpipe.models import names, preprocess
from imgpipe.models.errors import ResourceError, first_line
from imgpipe.serving.look import Look

#: Pillow's modes of grey images.
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
#: Four levels of 255: JPEG changes grey by that much. A faded photograph has 20 or more.
_COLOURED = 0.016
_WITH_ALPHA = ("RGBA", "LA", "PA")  # Pillow's modes
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24  # place of the depth in a PNG file
_BITS_PER_SAMPLE = 258  # TIFF 6.0, page 29
_SAMPLES_PER_PIXEL = 277  # TIFF 6.0, page 39
_COUNTED_BANDS, _COUNTED_BITS = 65_535, 255  # at most
_BIG_TIFF = 43  # version in the header
_HEADER, _BIG_HEADER = 8, 16  # bytes


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
        bands: Number of bands of a TIFF file; otherwise 0.
        bits: Bits of each channel of a PNG or TIFF file; otherwise 0.
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
    bands: int = 0
    bits: int = 0
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
    bands, bits = _bands_and_bits(look.data)
    content = Content(**field_values(header), bands=bands, bits=bits)
    why = header.hidden_cost or _why_not_decoded(header, look.pixels, pixel_limit)
    values = None
    if not why:
        values = decode(look)
        content.damage = damage(look, header.format, is_decoded=values is not None)
    if values is not None:
        return content.measured(values, look.data)
    content.decode_error = why or look.refusal(converted_formats())
    if header.hidden_cost or header.pixels > pixel_limit or not look.data:
        return content
    image, said = by_pillow(look)
    if image is None or bands > MOST_BANDS:
        reason, why, remedy = unread(look, header.format, bands, said)
        return dataclasses.replace(content, unread=reason, decode_error=why, remedy=remedy)
    content.converted = said
    # Writing it as PNG and decoding that gives the same pixels.
    return content.measured(np.asarray(image), look.data)


def _bands_and_bits(data: bytes) -> tuple[int, int]:
    """Return the number of bands of a TIFF file, and the bits of each channel; 0 if unknown.

    Pillow opens hardly any TIFF file with more than four bands, and says nothing of the lower bits
    of the colours of TIFF and PNG.
    """
    if data.startswith(_PNG):
        return 0, int.from_bytes(data[_PNG_DEPTH : _PNG_DEPTH + 1])
    try:
        size = _BIG_HEADER if _BIG_TIFF in data[2:4] else _HEADER
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:size])
        with io.BytesIO(data) as file:
            file.seek(tags.next)
            tags.load(file)
        bits = tags.get(_BITS_PER_SAMPLE, (1,))
        bands = int(tags.get(_SAMPLES_PER_PIXEL, 1))
        return min(bands, _COUNTED_BANDS), min(int(max(bits)), _COUNTED_BITS)
    except Exception:  # Pillow raises exceptions of any type for broken files
        return 0, 0


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
        raise _no_memory(error) from error
    except tf.errors.OpError:
        return None


def alpha_channel(data: bytes, kind: str, mode: str) -> np.ndarray | None:
    """Read the alpha channel of an encoded file, uint8 [H, W]; None where there is none to read.

    `kind` and `mode` are Pillow's names of the file format and of the mode. Raises ResourceError
    without enough memory.
    """
    import tensorflow as tf

    # The transparency of a palette is in the chunk tRNS, before the pixels (PNG 3rd edition, 5.6).
    chunk = kind == "PNG" and b"tRNS" in data[: max(data.find(b"IDAT"), 0)]
    if mode not in _WITH_ALPHA and kind != "GIF" and not chunk:
        return None
    try:
        if kind == "PNG":  # Pillow ignores the transparent colour of 16 bits per channel
            with tf.device("cpu"):
                return np.asarray(tf.io.decode_png(tf.constant(data), channels=4)[..., 3])
        with pillow(data) as image:
            # Opening a file does not decode it, so that opaque files take little time.
            if mode not in _WITH_ALPHA and "transparency" not in image.info:
                return None
            return np.asarray(image.convert("RGBA").getchannel("A"))
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise _no_memory(error) from error
    except Exception:  # Pillow's plugins raise exceptions of any type for broken files
        return None


def _no_memory(error: BaseException) -> ResourceError:
    """Return the error of an image that may well be decoded another time."""
    return ResourceError(
        f"there is not enough memory to decode an image ({first_line(error)}). End other programs, "
        "or lower judge.pixel_limit, and run again"
    )
