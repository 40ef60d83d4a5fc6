"""Paints the background of a hand, and holds what the hand's drawing shares: colours and noise.

Each kind of background is a function in the table `PAINTERS`, which returns linear RGB values,
float32 [3, height, width].
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

#: Paints a background from a source of randomness, a height and a width. It returns linear RGB
#: values, float32 [3, height, width].
Painter = Callable[[np.random.Generator, int, int], np.ndarray]


def linear(srgb: np.ndarray) -> np.ndarray:
    """Convert sRGB values to linear values, approximated by a power.

    Args:
        srgb: Values from 0 to 255, of any shape.

    Returns:
        Values from 0 to 1, float64 of the same shape.
    """
    return (np.asarray(srgb, np.float64) / 255.0) ** 2.2


def any_colour(rng: np.random.Generator, vivid: float) -> np.ndarray:
    """Return a random colour as sRGB values from 0 to 255, float64 [3].

    Args:
        rng: Source of randomness.
        vivid: Largest saturation, 0..1.
    """
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, vivid), rng.uniform(0.12, 0.95))
    return np.array(rgb) * 255


def soft_noise(
    rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 1
) -> np.ndarray:
    """Return smooth noise, float32 [height, width], with values from about −1 to 1.

    Args:
        rng: Source of randomness.
        height: Height in pixels.
        width: Width in pixels.
        cells: Number of waves along the longer side.
        octaves: Number of layers of noise, each with twice the waves and half the weight.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        n = cells * 2**octave / max(height, width)
        grid = rng.standard_normal((max(2, int(height * n) + 1), max(2, int(width * n) + 1)))
        # Random numbers on a coarse grid, which the interpolation joins smoothly.
        wave = Image.fromarray(grid.astype(np.float32))
        wave = wave.resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(wave) / (1.5 * 2**octave)
    return total


def blurred(values: np.ndarray, radius: float) -> np.ndarray:
    """Blur an array. Pillow's own filters take 8 bits only.

    Args:
        values: Array [H, W].
        radius: Approximate radius of the blur in pixels.

    Returns:
        float32 [H, W].
    """
    height, width = values.shape
    size = (max(2, round(width / max(1, radius))), max(2, round(height / max(1, radius))))
    small = Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _filled(colour: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.repeat(colour.astype(np.float32), height * width).reshape(3, height, width)


def _from_image(image: Image.Image) -> np.ndarray:
    table = linear(np.arange(256)).astype(np.float32)  # powers of 256 values, not of all pixels
    return table[np.asarray(image)].transpose(2, 0, 1)


def plain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a single colour, which is light more often than dark."""
    grey = rng.uniform(60, 245)
    colour = np.clip(grey + rng.normal(0, 10, 3), 5, 250)
    if rng.random() < 0.4:
        colour = any_colour(rng, 0.7)
    return _filled(linear(colour), height, width)


def gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a gradient between two colours in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    t = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)
    t = np.clip(t * rng.uniform(0.8, 1.6) + 0.5, 0, 1)[None].astype(np.float32)
    a = _filled(linear(any_colour(rng, 0.6)), height, width)
    b = _filled(linear(any_colour(rng, 0.6)), height, width)
    return a + t * (b - a)


def clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint soft spots of two colours, such as a wall, a carpet or foliage out of focus."""
    base = plain(rng, height, width)
    waves = soft_noise(rng, height, width, rng.uniform(3, 24), int(rng.integers(1, 4)))
    other = _filled(linear(any_colour(rng, 0.6)), height, width)
    mix = np.clip(0.5 + waves * rng.uniform(0.2, 0.5), 0, 1)
    return base + mix * rng.uniform(0.15, 0.8) * (other - base)


def wood(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint wooden boards with a grain."""
    angle = rng.choice((0.0, np.pi / 2)) + rng.normal(0, 0.2)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = -x * np.sin(angle) + y * np.cos(angle)
    boards = rng.uniform(2, 6)
    board = np.floor((v + 1) * boards).astype(int) % 64
    tone = rng.normal(1, 0.10, 64).astype(np.float32)[board]
    bend = soft_noise(rng, height, width, 2.5) * 0.05
    shift = rng.uniform(0, 9, 64)[board]
    grain = np.sin((v + bend) * rng.uniform(90, 220) + shift + 2 * np.sin(u * 7 + shift))
    gap = np.abs(((v + 1) * boards) % 1 - 0.5) > 0.485
    light = tone * (1 + 0.10 * grain.astype(np.float32)) * np.where(gap, 0.45, 1)
    colour = np.array([170, 120, 78]) * rng.uniform(0.45, 1.3) + rng.normal(0, 8, 3)
    return linear(np.clip(colour, 10, 240)).astype(np.float32)[:, None, None] * light


def weave(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint stripes or checks, as on cloth or tiles."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = -x * np.sin(angle) + y * np.cos(angle)
    count = rng.uniform(3, 16)
    a = np.sin(u * count * 2 * np.pi) > rng.uniform(-0.7, 0.7)
    b = np.sin(v * count * 2 * np.pi) > rng.uniform(-0.7, 0.7)
    first, second = linear(any_colour(rng, 0.6)), linear(any_colour(rng, 0.6))
    mix = (a * 0.5 + b * 0.5) if rng.random() < 0.6 else a * 1.0
    mix = np.asarray(mix, np.float32) * np.float32(rng.uniform(0.4, 1.0))
    base = _filled(first, height, width)
    return base + mix * (_filled(second, height, width) - base)


def clutter(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a plane with shapes on it, such as a desk with objects, usually out of focus."""
    image = Image.new("RGB", (width, height), tuple(any_colour(rng, 0.5).astype(int)))
    pen = ImageDraw.Draw(image)
    horizon = rng.uniform(0.3, 1.0) * height
    pen.rectangle((0, horizon, width, height), fill=tuple(any_colour(rng, 0.5).astype(int)))
    for _ in range(int(rng.integers(5, 22))):
        fill = tuple(any_colour(rng, 0.75).astype(int))
        x, y = rng.uniform(-0.1, 1.1) * width, rng.uniform(-0.1, 1.1) * height
        a, b = rng.uniform(0.04, 0.4, 2) * max(width, height)
        kind = rng.integers(4)
        if kind == 0:
            pen.ellipse((x - a / 2, y - b / 2, x + a / 2, y + b / 2), fill=fill)
        elif kind == 1:
            pen.rectangle((x, y, x + a, y + b), fill=fill)
        elif kind == 2:
            turn = rng.uniform(0, 2 * np.pi) + np.array([0, 1.8, np.pi, np.pi + 1.8])
            corners = np.column_stack([x + np.cos(turn) * a, y + np.sin(turn) * a])
            pen.polygon([tuple(c) for c in corners], fill=fill)
        else:
            end = (x + rng.normal(0, a), y + rng.normal(0, a))
            pen.line(((x, y), end), fill=fill, width=int(rng.integers(1, 9)))
    if rng.random() < 0.8:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 6.0)))
    return _from_image(image)


PAINTERS: tuple[tuple[Painter, float], ...] = (
    (plain, 0.28),
    (gradient, 0.20),
    (clouds, 0.18),
    (wood, 0.14),
    (weave, 0.08),
    (clutter, 0.12),
)


def paint(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a background of a random kind.

    Args:
        rng: Source of randomness.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        Linear RGB values, float32 [3, height, width].
    """
    kind = rng.choice(len(PAINTERS), p=[share for _, share in PAINTERS])
    return PAINTERS[kind][0](rng, height, width)
