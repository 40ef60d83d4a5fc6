"""What the pixels of one image measure: light, contrast, information, sharpness, colour.

The formulas are CleanVision's, so that its thresholds hold; the pixels are those the serving op
decodes, so that a palette, a CMYK or a 16-bit file measures like the picture it shows.
"""

from __future__ import annotations

import io
import math
from dataclasses import astuple, dataclass

import numpy as np
from PIL import Image, ImageFilter

from models import feature_names as names

#: Luminance of R, G and B in 0..255 is sqrt(.241 R² + .691 G² + .068 B²) / 255: their factors
#: before they are squared.
_LUMINANCE = (np.sqrt([0.241, 0.691, 0.068]) / 255).astype(np.float32)
_LEVELS = 256  # steps of the luminance in which it is counted
#: Pixels beyond which every n-th in both directions is looked at: a 24-megapixel photograph would
#: cost more than its decoding, and no figure moves by a hundredth.
_PIXELS = 4_000_000
_THUMBNAIL = 64  # pixels, the longer side at which sharpness is measured: noise is no detail
_EDGES = 0.01  # per grey level, how fast sharpness grows with the spread of the edges
_FLAT = 0.18  # the histogram's part of sharpness counts only above this
_OPAQUE = 255


@dataclass(frozen=True)
class Measurements:
    """Figures of one image; names and units as in `models.feature_names.MEASURED`."""

    brightness: float
    brightness_p5: float
    brightness_p99: float
    contrast: float
    entropy: float
    sharpness: float
    colour: float
    transparency: float = 0.0

    def features(self) -> dict[str, float]:
        """By name of the feature."""
        return dict(zip(names.MEASURED, astuple(self), strict=True))


def measure(pixels: np.ndarray, alpha: np.ndarray | None = None) -> Measurements:
    """Measure an image: uint8 [H, W, 3], at least one pixel; and its alpha channel, if it has one.

    `alpha` is uint8 of any shape; empty counts as none.
    """
    has_alpha = alpha is not None and alpha.size > 0
    opaque = float(np.mean(alpha == _OPAQUE)) if has_alpha else 1.0
    step = math.ceil(math.sqrt(pixels.shape[0] * pixels.shape[1] / _PIXELS))
    if step > 1:
        pixels = np.ascontiguousarray(pixels[::step, ::step])
    light = luminance(pixels)
    levels = (light * np.float32(_LEVELS - 1)).astype(np.uint8)
    counts = np.array(Image.fromarray(levels.reshape(1, -1)).histogram())
    image = Image.fromarray(pixels)
    small = _thumbnail(image)
    red, green, blue = np.moveaxis(np.asarray(small), -1, 0)  # np.ptp takes ten times as long
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return Measurements(
        brightness=float(light.mean()),
        brightness_p5=_percentile(light, levels, counts, 0.05),
        brightness_p99=_percentile(light, levels, counts, 0.99),
        contrast=_spread(counts) / (_LEVELS - 1),
        entropy=float((image if spread.any() else image.getchannel(0)).entropy()),
        sharpness=_sharpness(small.convert("L")),
        colour=float(spread.max()) / 255,
        transparency=1.0 - opaque,
    )


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Perceived light of each pixel, float32 [H·W] in 0..1, of uint8 [H, W, 3]."""
    total = np.zeros(pixels.shape[:2], np.float32)
    part = np.empty_like(total)
    for channel, weight in enumerate(_LUMINANCE):
        np.multiply(pixels[..., channel], weight, out=part)
        part *= part
        total += part
    np.sqrt(total, out=total)
    return np.minimum(total, 1, out=total).ravel()


def _percentile(light: np.ndarray, levels: np.ndarray, counts: np.ndarray, share: float) -> float:
    """`np.percentile(light, 100 * share)`, with only the pixels of one level put in order.

    `levels` uint8 [N] are the values in whole steps, `counts` how often each occurs.
    """
    place = share * (light.size - 1)
    low = int(place)
    up_to = counts.cumsum()
    level = int(np.searchsorted(up_to, low, side="right"))
    within = low - (int(up_to[level - 1]) if level else 0)
    ordered = np.sort(light[levels == level])
    value = float(ordered[within])
    if place == low:
        return value
    inside = within + 1 < ordered.size
    following = float(ordered[within + 1] if inside else light[levels > level].min())
    return value + (following - value) * (place - low)


def _spread(counts: np.ndarray) -> float:
    """Standard deviation of the levels that occur `counts` times."""
    values, total = np.arange(counts.size), counts.sum()
    mean = (values * counts).sum() / total
    return math.sqrt(((values - mean) ** 2 * counts).sum() / total)


def _thumbnail(image: Image.Image) -> Image.Image:
    ratio = max(image.size) / _THUMBNAIL
    if ratio <= 1:
        return image
    return image.resize((max(int(image.width // ratio), 1), max(int(image.height // ratio), 1)))


def _sharpness(grey: Image.Image) -> float:
    """0..1: spread of the edges; a flat histogram counts too, as pictures of few tones have it."""
    edges = np.asarray(grey.filter(ImageFilter.FIND_EDGES), np.float64).std()
    histogram = float(np.std(grey.histogram()))
    flatness = 1 - math.exp(-_EDGES * histogram)
    return min(1 - math.exp(-_EDGES * float(edges)) + (flatness if flatness > _FLAT else 0.0), 1.0)


def on_white(image: Image.Image) -> bytes:
    """The opened image as a browser shows it on a white page, as PNG."""
    picture = image.convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    page.alpha_composite(picture)
    out = io.BytesIO()
    page.convert("RGB").save(out, format="PNG", compress_level=1)
    return out.getvalue()
