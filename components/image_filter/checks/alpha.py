"""Transparent pixels: the serving operation drops the alpha channel and shows hidden colours."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from imgpipe.components.image_file.content import alpha_channel
from imgpipe.components.image_file.header import pillow
from imgpipe.components.image_file.measurements import Measurement
from imgpipe.components.image_file.pixels import Pixels
from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_filter.checks.decodable import eight_bits
from imgpipe.components.image_record import ImageRecord
from imgpipe.models import feature_names as names

_OPAQUE = 255


def transparency(pixels: Pixels) -> float:
    """Compute the share of the pixels that are not opaque, 0..1."""
    return 0.0 if pixels.alpha is None else 1 - float(np.mean(pixels.alpha == _OPAQUE))


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Report images with transparent pixels; a fully opaque alpha channel is harmless."""
    hidden = record.figures.get(names.TRANSPARENCY, 0.0)
    if not hidden:
        return None
    return Finding(CHECK.name, f"{hidden:.1%} of the pixels are not opaque", score=-hidden)


def repair(record: ImageRecord, data: bytes) -> bytes:
    """Put the image on white. `data` is not used: repaired bytes have no alpha channel any more."""
    alpha = alpha_channel(record.image_bytes, record.format, record.mode)
    with pillow(record.image_bytes) as image:
        return on_white(image, alpha)


def on_white(image: Image.Image, alpha: np.ndarray | None = None) -> bytes:
    """Render the image on a white background and encode it as PNG.

    Args:
        image: The image.
        alpha: Its alpha channel, uint8 [H, W]; None to take it from the image. Pillow does not
            apply the transparent colour of a PNG with 16 bits per channel.
    """
    mask = image.convert("RGBA").getchannel("A") if alpha is None else Image.fromarray(alpha)
    page = Image.composite(eight_bits(image), Image.new("RGB", image.size, "white"), mask)
    out = io.BytesIO()
    page.save(out, format="PNG", compress_level=1)  # fast; see `orientation.repair`
    return out.getvalue()


CHECK = Check(
    "alpha",
    100,
    "pixels",
    judge,
    'set judge.severity.alpha = "repair" to put such images on a white background',
    severity="warn",
    may_be=("warn", "repair", "reject", "ignore"),
    finds="Transparent pixels, whose hidden colours the model sees; repair: on white",
    repair=repair,
    measurement=Measurement(names.TRANSPARENCY, transparency),
)
