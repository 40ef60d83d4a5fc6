"""The decoded pixels of one image, and the measurements and perceptual hashes of them.

The pixels are those that the serving op decodes, so palette, CMYK and 16-bit files are measured as
the served model sees them. Tones of very large images are computed from a sample of the pixels.
Sharpness, colour and hashes are computed from an image that is reduced by averaging blocks, which
takes a tenth of the time of a good kernel.

A perceptual hash is a difference hash of 16 x 16 bits: the image is reduced to 17 x 16 grey pixels,
and each bit says whether a pixel is darker than its right neighbour. Saving an image again,
resizing or brightening it changes only a few bits, while the hashes of unrelated images differ in
about 128 bits. Cropping 5 % of the image changes more bits. Therefore the hashes of such crops are
computed too, and the hash of a cropped copy is close to one of them. One matrix product computes
all hashes from a small grey image, so no library is needed. Half of that image in each direction is
kept beside the hashes, by which copies are confirmed, and so are the shares of its colours, by
which images of one family are told.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageFilter

from imgpipe.models import names

#: The luminance of R, G and B in 0..255 is sqrt(.241 R² + .691 G² + .068 B²) / 255. These are the
#: factors that each channel is multiplied by before it is squared.
_LUMINANCE = (np.sqrt([0.241, 0.691, 0.068]) / 255).astype(np.float32)
_LEVELS = 256  # bins of the luminance histogram
#: Images with more pixels than this are sampled: every n-th row and column. Measuring all pixels of
#: a 24-megapixel photograph would take longer than decoding it.
_SAMPLE = 1_000_000
_COLOURED = 64  # pixels of the longer side at which colour is measured
#: Pixels of the longer side at which sharpness is measured, so that noise does not count.
THUMBNAIL = 64
SHARP = 0.29  # the sharpness below which an image is blurred
_DOUBT = 0.05  # within this distance of `SHARP`, the thumbnail is computed from all pixels
_EDGES = 0.01  # per grey level: how fast sharpness grows with the standard deviation
_FLAT = 0.18  # the histogram's part of the sharpness is added only above this value
_FLAT_DOUBT = 0.02  # within this distance of `_FLAT`, the thumbnail is computed from all pixels
_OPAQUE = 255
#: Pixels of the reduced image for each of the thumbnail, in each direction, so that resizing it
#: with the kernel barely changes the result.
_SPARE = 2
SIDE = 16  # bits in each direction
BITS = SIDE * SIDE
BYTES = BITS // 8
#: Side of the grey image that all hashes are computed from, in pixels: four for each bit.
_GRID = 4 * SIDE
#: Side and bytes of the grey image that is kept.
GREY_SIDE = _GRID // 2
GREY_BYTES = GREY_SIDE * GREY_SIDE
#: (size, start) of the windows in each direction, as shares of the side: all of it, or 95 %.
WINDOWS = ((1.0, 0.0), (0.95, 0.0), (0.95, 0.025), (0.95, 0.05))
#: Number of crops: every pair of windows except the whole image.
CROPS = len(WINDOWS) ** 2 - 1
#: Number of hashes of an image: upright, mirrored, crops.
KINDS = 2 + CROPS
_COLOUR_BYTES = 64  # of the shares of all colours, of four levels (two bits) in each channel
#: Number of bytes of all hashes of an image, of its grey image, its colours and its shape, in this
#: order; the hashes are before the grey image.
GREYS = KINDS * BYTES
ALL_BYTES = GREYS + GREY_BYTES + _COLOUR_BYTES + 1
#: The shape of an image is width / height as the power of this factor, plus `SQUARE`.
SHAPE_FACTOR = 1.05
SQUARE = 128
_LOBES = 3  # size of the Lanczos kernel
#: Smallest difference between neighbours, in grey levels (0..255), that counts as image content.
#: Smaller differences come from JPEG noise and from plain backgrounds.
_STEP = 2
#: Number of such differences that an image needs; otherwise only its pixels are compared.
_MIN_STEPS = 64
#: Number of neighbouring bits (of 480 horizontal and vertical pairs) that must differ; otherwise
#: the image has no texture, and all ramps and vignettes have the same hash. Photographs are far
#: above: see docs/benchmarks.md, "Constants of the code".
_MIN_CHANGES = 40


class Pixels:
    """The pixels of one image.

    Args:
        values: uint8 [H, W, 3], with at least one pixel.
        alpha: Alpha channel, uint8 of any shape; None or empty when there is none.
    """

    def __init__(self, values: np.ndarray, alpha: np.ndarray | None = None) -> None:
        self.values = values
        self.alpha = alpha if alpha is not None and alpha.size else None

    @functools.cached_property
    def small(self) -> Small:
        """The image reduced to about a hundred pixels in each direction."""
        return shrink(self.values)

    @functools.cached_property
    def channels(self) -> tuple[Image.Image, ...]:
        """Red, green and blue of the image, reduced so far that noise has no colour."""
        image = self.small.image
        factor = max(image.size) // _COLOURED
        return (image.reduce(factor) if factor > 1 else image).split()

    @functools.cached_property
    def colour(self) -> float:
        """Greatest difference between the channels of any pixel of `channels`, 0..1."""
        # Pillow works on whole planes, while `np.ptp` would reduce an axis of three values.
        red, green, blue = self.channels
        lightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
        darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
        return float(np.asarray(ImageChops.subtract(lightest, darkest)).max()) / 255

    @functools.cached_property
    def tones(self) -> Tones:
        """Luminance and entropy of the sampled pixels."""
        step = max(round(math.sqrt(self.values[..., 0].size / _SAMPLE)), 1)
        sample = np.ascontiguousarray(self.values[::step, ::step])
        light = luminance(sample)
        levels = (light * np.float32(_LEVELS - 1)).astype(np.uint8)
        counts = np.array(Image.fromarray(levels.reshape(1, -1)).histogram())
        return Tones(sample, light, levels, counts, self.colour > 0)


@dataclass(frozen=True)
class Tones:
    """Luminance and colour of the sampled pixels, regardless of their position."""

    pixels: np.ndarray  # uint8 [h, w, 3], the sample
    light: np.ndarray  # float32 [N], luminance in 0..1
    levels: np.ndarray  # uint8 [N], luminance as a bin of the histogram
    counts: np.ndarray  # int [256], number of pixels of each level
    coloured: bool  # whether the channels of any pixel differ

    @property
    def brightness(self) -> float:
        """Mean luminance, 0..1."""
        return float(self.light.mean())

    @property
    def contrast(self) -> float:
        """Standard deviation of the luminance, 0..0.5."""
        return float(self.light.std(dtype=np.float64))

    @property
    def entropy(self) -> float:
        """Entropy of the histogram in bits: of all channels, or of one channel if all are equal."""
        image = Image.fromarray(self.pixels)
        return float((image if self.coloured else image.getchannel(0)).entropy())

    def percentile(self, share: float) -> float:
        """Compute `np.percentile(light, 100 * share)`, sorting only the pixels of one level."""
        position = share * (self.light.size - 1)
        low = int(position)
        up_to = self.counts.cumsum()
        level = int(np.searchsorted(up_to, low, side="right"))
        within = low - (int(up_to[level - 1]) if level else 0)
        ordered = np.sort(self.light[self.levels == level])
        value = float(ordered[within])
        if position == low:
            return value
        inside = within + 1 < ordered.size
        above = ordered[within + 1] if inside else self.light[self.levels > level].min()
        return value + (float(above) - value) * (position - low)


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Compute the perceived luminance of each pixel.

    Args:
        pixels: uint8 [H, W, 3].

    Returns:
        float32 [H·W] in 0..1.
    """
    total = np.zeros(pixels.shape[:2], np.float32)
    part = np.empty_like(total)
    for channel, weight in enumerate(_LUMINANCE):
        np.multiply(pixels[..., channel], weight, out=part)
        part *= part
        total += part
    np.sqrt(total, out=total)
    return np.minimum(total, 1, out=total).ravel()


@dataclass(frozen=True)
class Small:
    """An image reduced to about a hundred pixels in each direction."""

    image: Image.Image  # RGB
    #: The part that shows the image: the last row and column may stand for fewer pixels.
    box: tuple[float, float, float, float]
    thumbnail: tuple[int, int]  # (width, height) of the image at `THUMBNAIL`

    @functools.cached_property
    def grey(self) -> Image.Image:
        """The reduced image in grey."""
        return self.image.convert("L")


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) of the thumbnail, whose longer side is at most `THUMBNAIL`."""
    ratio = max(width, height) / THUMBNAIL
    if ratio <= 1:
        return width, height
    return max(int(width // ratio), 1), max(int(height // ratio), 1)


def shrink(pixels: np.ndarray) -> Small:
    """Reduce an image, uint8 [H, W, 3], with at least one pixel."""
    height, width = pixels.shape[:2]
    thumbnail = thumbnail_size(width, height)
    across = max(width // (_SPARE * thumbnail[0]), 1)
    down = max(height // (_SPARE * thumbnail[1]), 1)
    image = Image.fromarray(pixels)
    if (across, down) != (1, 1):
        image = image.reduce((across, down))
    return Small(image, (0, 0, width / across, height / down), thumbnail)


def sharpness(pixels: Pixels) -> float:
    """Compute the sharpness, 0..1, from the edges and the histogram of a thumbnail.

    It is the standard deviation of the edges, to which that of the histogram is added when it is
    large, as for images with few tones. It is added in full or not at all. The
    thumbnail is made from the reduced image; it is made again from all pixels only when the result
    is close to a threshold.
    """
    small = pixels.small
    resized = small.image.size != small.thumbnail
    thumbnail = small.grey
    if resized:
        thumbnail = thumbnail.resize(small.thumbnail, Image.Resampling.BICUBIC, box=small.box)
    edges, flatness = _edges_and_flatness(thumbnail)
    near = abs(_sum(edges, flatness) - SHARP) < _DOUBT
    turns = abs(flatness - _FLAT) < _FLAT_DOUBT and edges < SHARP + _DOUBT
    if (near or turns) and resized:
        image = Image.fromarray(pixels.values).resize(small.thumbnail)
        edges, flatness = _edges_and_flatness(image.convert("L"))
    return _sum(edges, flatness)


def _edges_and_flatness(grey: Image.Image) -> tuple[float, float]:
    edges = np.asarray(grey.filter(ImageFilter.FIND_EDGES), np.float64).std()
    tones = float(np.std(grey.histogram()))
    return 1 - math.exp(-_EDGES * float(edges)), 1 - math.exp(-_EDGES * tones)


def _sum(edges: float, flatness: float) -> float:
    return min(edges + (flatness if flatness > _FLAT else 0.0), 1.0)


def transparency(pixels: Pixels) -> float:
    """Compute the share of the pixels that are not opaque, 0..1."""
    return 0.0 if pixels.alpha is None else 1 - float(np.mean(pixels.alpha == _OPAQUE))


#: What is measured in the pixels of each image, by the name of the feature that stores it. Checks
#: compare these figures, and the statistics of the data have a distribution of each.
MEASUREMENTS: Mapping[str, Callable[[Pixels], float]] = {
    names.BRIGHTNESS: lambda pixels: pixels.tones.brightness,
    names.CONTRAST: lambda pixels: pixels.tones.contrast,
    names.TRANSPARENCY: transparency,
    names.BRIGHTNESS_P99: lambda pixels: pixels.tones.percentile(0.99),
    names.BRIGHTNESS_P5: lambda pixels: pixels.tones.percentile(0.05),
    names.ENTROPY: lambda pixels: pixels.tones.entropy,
    names.SHARPNESS: sharpness,
    names.COLOUR: lambda pixels: pixels.colour,
}


def measure(pixels: Pixels) -> dict[str, float]:
    """Compute all measurements of an image, by name, rounded to float32 as in an Example."""
    return {name: float(np.float32(value_of(pixels))) for name, value_of in MEASUREMENTS.items()}


def perceptual_hashes(image: Pixels) -> bytes:
    """Compute all perceptual hashes of an image.

    Returns:
        `ALL_BYTES` bytes: the hashes of the upright image, the mirrored image and `CROPS` crops,
        the grey image, its colours and its shape. When the image is too plain or too smooth to be
        told from others, each hash is that of its size and pixels.
    """
    small = image.small
    grey = small.grey.resize((_GRID, _GRID), Image.Resampling.HAMMING, box=small.box)
    pixels = np.asarray(grey, np.float32)
    # Every window of rows with every window of columns: the whole image and all crops.
    cells = weights(SIDE, _GRID) @ pixels @ weights(SIDE + 1, _GRID).T
    cells = cells.reshape(len(WINDOWS), SIDE, len(WINDOWS), SIDE + 1)
    steps = np.diff(cells, axis=3).transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)
    upright = steps[0]
    strong = np.count_nonzero(np.abs(upright) >= _STEP)
    if strong < _MIN_STEPS or _changes(upright > 0) < _MIN_CHANGES:
        hashes = _exact(image.values) * KINDS
    else:
        # In the mirror image the order of the pixels and the sign of each difference are reversed.
        bits = np.concatenate([steps[:1] > 0, steps[:1, :, ::-1] < 0, steps[1:] > 0])
        hashes = np.packbits(bits).tobytes()
    pairs = pixels[::2] + pixels[1::2]  # four times as fast as `mean` over two axes
    kept = ((pairs[:, ::2] + pairs[:, 1::2]) / 4).round()
    return hashes + kept.astype(np.uint8).tobytes() + _colours(image) + _shape(image.values)


def colours_of(table: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the colours of images, uint8 [n, `_COLOUR_BYTES`], from [n, `ALL_BYTES`]."""
    start = GREYS + GREY_BYTES
    return table[:, start : start + _COLOUR_BYTES]


def _colours(image: Pixels) -> bytes:
    """Return the root of the share of each colour, `_COLOUR_BYTES` bytes.

    They tell pictures of one scene, however they are cut, turned or mirrored.
    """
    red, green, blue = (np.asarray(channel) >> 6 for channel in image.channels)
    places = (red << 4) | (green << 2) | blue
    counts = np.bincount(places.ravel(), minlength=_COLOUR_BYTES)
    return (np.sqrt(counts / places.size) * 255).round().astype(np.uint8).tobytes()


def _shape(values: np.ndarray) -> bytes:
    """Return the shape of an image, one byte."""
    height, width = values.shape[:2]
    power = round(math.log(width / height, SHAPE_FACTOR))
    return bytes([min(max(power + SQUARE, 0), 255)])


def _exact(values: np.ndarray) -> bytes:
    """SHA-256 of the size and the pixels of an image, `BYTES` bytes."""
    digest = hashlib.sha256(repr(values.shape).encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


@functools.cache
def weights(cells: int, grid: int) -> npt.NDArray[np.float32]:
    """Return Lanczos weights that reduce each window of a side to `cells` pixels.

    Args:
        cells: Number of pixels of a window after the reduction.
        grid: Number of pixels of the side before the reduction.

    Returns:
        float32 [windows · cells, grid].
    """
    tables = []
    for size, start in WINDOWS:
        width = size * grid / cells
        centres = start * grid + (np.arange(cells) + 0.5) * width
        away = (np.arange(grid) + 0.5 - centres[:, None]) / width
        kernel = np.sinc(away) * np.sinc(away / _LOBES) * (np.abs(away) < _LOBES)
        tables.append(kernel / kernel.sum(axis=1, keepdims=True))
    return np.concatenate(tables).astype(np.float32)


def _changes(bits: npt.NDArray[np.bool_]) -> int:
    across = bits[:, 1:] != bits[:, :-1]
    down = bits[1:] != bits[:-1]
    return int(np.count_nonzero(across) + np.count_nonzero(down))
