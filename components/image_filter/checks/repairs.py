"""Images that the serving operation shows otherwise than a viewer; both can be repaired.

The serving operation drops the alpha channel, which shows hidden colours, and applies the Exif
orientation of JPEG files alone. The default is a warning and not a repair, because a model should
be trained on the images that it will see. With "repair", the images are put on white or rotated
and stored as PNG.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from imgpipe.components.image_file.content import alpha_channel
from imgpipe.components.image_file.header import pillow
from imgpipe.components.image_file.pixels import Measurement, Pixels
from imgpipe.components.image_filter.check import Finding, Result, Settings, check
from imgpipe.components.image_filter.checks.decodable import eight_bits
from imgpipe.components.image_record import ImageRecord
from imgpipe.models import feature_names as names

_OPAQUE = 255


def transparency(pixels: Pixels) -> float:
    """Compute the share of the pixels that are not opaque, 0..1."""
    return 0.0 if pixels.alpha is None else 1 - float(np.mean(pixels.alpha == _OPAQUE))


def on_white_page(record: ImageRecord, data: bytes) -> bytes:
    """Put the image on white. `data` is not used: repaired bytes have no alpha channel any more."""
    mask = alpha_channel(record.image_bytes, record.format, record.mode)
    with pillow(record.image_bytes) as image:
        return on_white(image, mask)


def on_white(image: Image.Image, mask: np.ndarray | None = None) -> bytes:
    """Render the image on a white background and encode it as PNG.

    Args:
        image: The image.
        mask: Its alpha channel, uint8 [H, W]; None to take it from the image. Pillow does not
            apply the transparent colour of a PNG with 16 bits per channel.
    """
    opaque = image.convert("RGBA").getchannel("A") if mask is None else Image.fromarray(mask)
    white = Image.new("RGB", image.size, "white")
    return _png(Image.composite(eight_bits(image), white, opaque))


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    # Higher compression levels take longer and barely make a photograph smaller.
    image.save(out, format="PNG", compress_level=1)
    return out.getvalue()


#: Exif orientation → the operation that makes the image upright, and a description.
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, "mirrored"),
    3: (Image.Transpose.ROTATE_180, "upside down"),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, "upside down and mirrored"),
    5: (Image.Transpose.TRANSPOSE, "on its side and mirrored"),
    6: (Image.Transpose.ROTATE_270, "on its side"),
    7: (Image.Transpose.TRANSVERSE, "on its side and mirrored"),
    8: (Image.Transpose.ROTATE_90, "on its side"),
}


def turned(record: ImageRecord, data: bytes) -> bytes:
    """Make the image upright and encode it as PNG with 8-bit RGB, without loss."""
    with pillow(data) as image:
        image.load()
        return _png(eight_bits(image).transpose(_TURNS[record.orientation][0]))


@check(
    100,
    "pixels",
    'set judge.severity.alpha = "repair" to put such images on a white background',
    severity="warn",
    may_be=("warn", "repair", "reject", "ignore"),
    repair=on_white_page,
    measurement=Measurement(names.TRANSPARENCY, transparency),
)
def alpha(record: ImageRecord, settings: Settings) -> Result:
    """Transparent pixels, whose hidden colours the model sees; repair: on white."""
    hidden = record.figures.get(names.TRANSPARENCY, 0.0)
    if not hidden:
        return None
    return Finding("alpha", f"{hidden:.1%} of the pixels are not opaque", score=-hidden)


@check(
    130,
    "header",
    'set judge.severity.orientation = "repair" to rotate such images, and rotate them before '
    "sending them to the server",
    severity="warn",
    may_be=("warn", "repair", "reject", "ignore"),
    repair=turned,
)
def orientation(record: ImageRecord, settings: Settings) -> Result:
    """Exif orientation that the model ignores, since it is no JPEG; repair: rotated, as PNG."""
    if record.orientation not in _TURNS:
        return None
    how = _TURNS[record.orientation][1]
    return f"stored {how} (Exif orientation {record.orientation})"
