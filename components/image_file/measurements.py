"""What the pixels of one image measure: light, contrast, information, sharpness, colour.

The formulas are CleanVision's, so that its thresholds hold; the pixels are those the serving op
decodes, so that a palette, a CMYK or a 16-bit file measures like the picture it shows. Most
pictures are far from every threshold: they are measured by some of their pixels, which moves a
figure by a hundredth or two. What comes near a threshold is measured again by all of them.
"""

from __future__ import annotations

import io
import math
from dataclasses import astuple, dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from imgpipe.components.image_file.reduction import Small, shrink
from imgpipe.models import feature_names as names

#: The default thresholds of the quality checks, which are CleanVision's.
DARK = 0.32  # luminance that the brightest 1 % exceed
LIGHT = 0.05  # darkness that the darkest 5 % exceed
LOW_INFORMATION = 0.3  # a tenth of the entropy in bits
BLURRY = 0.29  # sharpness
#: How near to a threshold a figure of some pixels must be to be measured by all.
_DOUBT = 0.05

#: Luminance of R, G and B in 0..255 is sqrt(.241 R² + .691 G² + .068 B²) / 255: their factors
#: before they are squared.
_LUMINANCE = (np.sqrt([0.241, 0.691, 0.068]) / 255).astype(np.float32)
_LEVELS = 256  # steps of the luminance in which it is counted
#: Pixels beyond which every n-th in both directions is looked at.
_PIXELS = 20_000
#: The same where a figure is in doubt: a 24-megapixel photograph would cost more than its decoding.
_PIXELS_IN_DOUBT = 4_000_000
_EDGES = 0.01  # per grey level, how fast sharpness grows with the spread of the edges
_FLAT = 0.18  # the histogram's part of sharpness counts only above this
_FLAT_DOUBT = 0.02  # how near to that is in doubt
_COLOURED = 64  # pixels, the longer side at most at which colour is looked for: noise has none
_OPAQUE = 255


@dataclass(frozen=True)
class Measurements:
    """Figures of one image; names and units as in `imgpipe.models.feature_names.MEASURED`."""

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


@dataclass(frozen=True)
class _Tones:
    """What comes of the pixels wherever they lie."""

    brightness: float
    brightness_p5: float
    brightness_p99: float
    contrast: float
    entropy: float

    @property
    def in_doubt(self) -> bool:
        """Whether one of them is near the threshold of its check."""
        return (
            abs(self.brightness_p99 - DARK) < _DOUBT
            or abs(1 - self.brightness_p5 - LIGHT) < _DOUBT
            or abs(0.1 * self.entropy - LOW_INFORMATION) < _DOUBT
        )


def measure(
    pixels: np.ndarray, alpha: np.ndarray | None = None, small: Small | None = None
) -> Measurements:
    """Measure an image: uint8 [H, W, 3], at least one pixel; and its alpha channel, if it has one.

    `alpha` is uint8 of any shape; empty counts as none. `small` is the image shrunk, where that is
    there already.
    """
    small = small or shrink(pixels)
    has_alpha = alpha is not None and alpha.size > 0
    opaque = float(np.mean(alpha == _OPAQUE)) if has_alpha else 1.0
    colour = _colour(small.image)
    some = _sampled(pixels, _PIXELS)
    tones = _tones(some, colour > 0)
    if tones.in_doubt and some is not pixels:
        tones = _tones(_sampled(pixels, _PIXELS_IN_DOUBT), colour > 0)
    return Measurements(
        tones.brightness,
        tones.brightness_p5,
        tones.brightness_p99,
        tones.contrast,
        tones.entropy,
        _sharpness(pixels, small),
        colour,
        1 - opaque,
    )


def _sampled(pixels: np.ndarray, count: int) -> np.ndarray:
    """Some `count` of the pixels, in rows and columns; all when there are hardly more."""
    height, width = pixels.shape[:2]
    step = round(math.sqrt(height * width / count))
    if step <= 1:
        return pixels
    rows = np.ascontiguousarray(pixels[::step])
    # A pixel as one element: numpy copies those several times as fast as three.
    whole = rows.view("V3").reshape(rows.shape[:2])[:, ::step]
    return np.ascontiguousarray(whole).view(np.uint8).reshape(*whole.shape, 3)


def _tones(pixels: np.ndarray, coloured: bool) -> _Tones:
    light = luminance(pixels)
    levels = (light * np.float32(_LEVELS - 1)).astype(np.uint8)
    counts = np.array(Image.fromarray(levels.reshape(1, -1)).histogram())
    image = Image.fromarray(pixels)
    return _Tones(
        brightness=float(light.mean()),
        brightness_p5=_percentile(light, levels, counts, 0.05),
        brightness_p99=_percentile(light, levels, counts, 0.99),
        contrast=_spread(counts) / (_LEVELS - 1),
        entropy=float((image if coloured else image.getchannel(0)).entropy()),
    )


def _colour(image: Image.Image) -> float:
    """0..1: the greatest difference between the channels of a pixel of the thumbnail."""
    factor = max(image.size) // _COLOURED
    red, green, blue = (image.reduce(factor) if factor > 1 else image).split()
    lightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    return float(np.asarray(ImageChops.subtract(lightest, darkest)).max()) / 255


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


def _sharpness(pixels: np.ndarray, small: Small) -> float:
    """0..1: spread of the edges; a flat histogram counts too, as pictures of few tones have it.

    That second part counts whole or not at all; where edges alone make a picture sharp, it is not
    looked at twice.
    """
    resized = small.image.size != small.thumbnail
    thumbnail = small.grey
    if resized:
        thumbnail = thumbnail.resize(small.thumbnail, Image.Resampling.BICUBIC, box=small.box)
    edges, flatness = _edges_and_flatness(thumbnail)
    near = abs(_sum(edges, flatness) - BLURRY) < _DOUBT
    turns = abs(flatness - _FLAT) < _FLAT_DOUBT and edges < BLURRY + _DOUBT
    if (near or turns) and resized:
        image = Image.fromarray(pixels).resize(small.thumbnail)
        edges, flatness = _edges_and_flatness(image.convert("L"))
    return _sum(edges, flatness)


def _edges_and_flatness(grey: Image.Image) -> tuple[float, float]:
    edges = np.asarray(grey.filter(ImageFilter.FIND_EDGES), np.float64).std()
    tones = float(np.std(grey.histogram()))
    return 1 - math.exp(-_EDGES * float(edges)), 1 - math.exp(-_EDGES * tones)


def _sum(edges: float, flatness: float) -> float:
    return min(edges + (flatness if flatness > _FLAT else 0.0), 1.0)


def on_white(image: Image.Image) -> bytes:
    """The opened image as a browser shows it on a white page, as PNG."""
    picture = image.convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    page.alpha_composite(picture)
    out = io.BytesIO()
    page.convert("RGB").save(out, format="PNG", compress_level=1)
    return out.getvalue()
