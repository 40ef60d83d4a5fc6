"""The decoded pixels of one image, and the intermediate results that measurements share.

The pixels are those that the serving op decodes, so that a palette, a CMYK or a 16-bit file is
measured like the image that it shows. Tones are taken from a sample of the pixels, which moves a
value by a hundredth or two.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

from imgpipe.components.image_file.reduction import Small, shrink

#: Luminance of R, G and B in 0..255 is sqrt(.241 R² + .691 G² + .068 B²) / 255: their factors
#: before they are squared.
_LUMINANCE = (np.sqrt([0.241, 0.691, 0.068]) / 255).astype(np.float32)
_LEVELS = 256  # steps of the luminance in which it is counted
#: Above this number of pixels, every n-th row and column is sampled.
_SAMPLE = 20_000
#: The same for a closer look: a 24-megapixel image would cost more than its decoding.
_CLOSE_SAMPLE = 4_000_000
_COLOURED = 64  # pixels of the longer side at which colour is looked for: noise has none there


class Pixels:
    """The pixels of one image.

    Args:
        values: uint8 [H, W, 3], with at least one pixel.
        alpha: Alpha channel, uint8 of any shape; None or empty when there is none.
        sample: Number of pixels that `tones` looks at.
    """

    def __init__(
        self, values: np.ndarray, alpha: np.ndarray | None = None, sample: int = _SAMPLE
    ) -> None:
        self.values = values
        self.alpha = alpha if alpha is not None and alpha.size else None
        self._sampled = _sampled(values, sample)

    @property
    def is_sampled(self) -> bool:
        """Whether `tones` looks at a part of the pixels only."""
        return self._sampled is not self.values

    def closer(self) -> Pixels:
        """The same pixels with a larger sample."""
        closer = Pixels(self.values, self.alpha, _CLOSE_SAMPLE)
        closer.small, closer.colour = self.small, self.colour
        return closer

    @functools.cached_property
    def small(self) -> Small:
        """The image reduced to some hundred pixels each way."""
        return shrink(self.values)

    @functools.cached_property
    def colour(self) -> float:
        """0..1: the greatest difference between the channels of a pixel of the thumbnail."""
        image = self.small.image
        factor = max(image.size) // _COLOURED
        red, green, blue = (image.reduce(factor) if factor > 1 else image).split()
        lightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
        darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
        return float(np.asarray(ImageChops.subtract(lightest, darkest)).max()) / 255

    @functools.cached_property
    def tones(self) -> Tones:
        """Luminance and entropy of the sampled pixels."""
        light = luminance(self._sampled)
        levels = (light * np.float32(_LEVELS - 1)).astype(np.uint8)
        counts = np.array(Image.fromarray(levels.reshape(1, -1)).histogram())
        return Tones(self._sampled, light, levels, counts, self.colour > 0)


@dataclass(frozen=True)
class Tones:
    """What the sampled pixels show wherever they lie in the image."""

    pixels: np.ndarray  # uint8 [h, w, 3], the sample
    light: np.ndarray  # float32 [N], luminance in 0..1
    levels: np.ndarray  # uint8 [N], luminance in whole steps
    counts: np.ndarray  # int [256], how often each level occurs
    coloured: bool  # whether the channels differ

    @property
    def brightness(self) -> float:
        """Mean luminance, 0..1."""
        return float(self.light.mean())

    @property
    def contrast(self) -> float:
        """Standard deviation of the luminance, 0..0.5."""
        values, total = np.arange(self.counts.size), self.counts.sum()
        mean = (values * self.counts).sum() / total
        return math.sqrt(((values - mean) ** 2 * self.counts).sum() / total) / (_LEVELS - 1)

    @property
    def entropy(self) -> float:
        """Bits, of the histogram of all channels; of one where all are equal."""
        image = Image.fromarray(self.pixels)
        return float((image if self.coloured else image.getchannel(0)).entropy())

    def percentile(self, share: float) -> float:
        """`np.percentile(light, 100 * share)`, where only the pixels of one level are sorted."""
        place = share * (self.light.size - 1)
        low = int(place)
        up_to = self.counts.cumsum()
        level = int(np.searchsorted(up_to, low, side="right"))
        within = low - (int(up_to[level - 1]) if level else 0)
        ordered = np.sort(self.light[self.levels == level])
        value = float(ordered[within])
        if place == low:
            return value
        inside = within + 1 < ordered.size
        above = ordered[within + 1] if inside else self.light[self.levels > level].min()
        return value + (float(above) - value) * (place - low)


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


def _sampled(pixels: np.ndarray, count: int) -> np.ndarray:
    """About `count` of the pixels, in rows and columns; all when there are hardly more."""
    height, width = pixels.shape[:2]
    step = round(math.sqrt(height * width / count))
    if step <= 1:
        return pixels
    rows = np.ascontiguousarray(pixels[::step])
    # A pixel as one element: numpy copies those several times as fast as three.
    whole = rows.view("V3").reshape(rows.shape[:2])[:, ::step]
    return np.ascontiguousarray(whole).view(np.uint8).reshape(*whole.shape, 3)
