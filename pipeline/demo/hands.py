"""Draws an image of a hand: its strokes as a relief, with skin, clothes, light and shadow.

The relief has one height for each pixel, so light and shadow come from its slopes. It is computed
at twice the size and then reduced, for smooth edges. Colours are linear RGB values until the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from imgpipe.pipeline.demo import backgrounds, gestures
from imgpipe.pipeline.demo.backgrounds import any_colour, blurred, linear, soft_noise
from imgpipe.pipeline.demo.gestures import CUFF, NAIL, SKIN, SLEEVE, Stroke

_OVERSAMPLING = 2
_FAR = -1.0  # height of the background in units of the hand, whose surface is above 0
# sRGB values from light to dark. The skin of an image lies between two neighbours.
_TONES = ((246, 218, 198), (233, 191, 162), (214, 165, 128), (166, 114, 79), (104, 66, 46))


@dataclass(frozen=True)
class _Relief:
    """What is seen at each pixel, [H, W]; lengths are in units of the hand."""

    height: np.ndarray  # float32; above 0 on the hand
    part: np.ndarray  # uint8: the part of the stroke that is in front
    crease: np.ndarray  # float32: darkness of the folds of the skin, from 0 to 1


def render(label: str, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw a hand.

    Args:
        label: The gesture, one of `gestures.LABELS`.
        rng: Source of randomness for everything else.
        width: Width in pixels.
        height: Height in pixels.

    Returns:
        An RGB image.
    """
    size = np.array([width, height]) * _OVERSAMPLING
    strokes = gestures.sample(label, rng)
    unit = float(rng.uniform(0.70, 0.94) * min(size / np.ptp(_corners(strokes), axis=0)))
    unit = min(unit, 0.55 * float(size.min()))  # otherwise a fist, whose box is small, is huge
    middle = size / 2 + rng.normal(0, 0.035, 2) * size
    relief = _relief(strokes, unit, middle - unit * _corners(strokes).mean(0), size)
    lamp = _lamp(rng)
    colour, floor = _shaded(_albedo(relief, rng), relief, unit, lamp, float(rng.uniform(0.4, 0.9)))
    alpha = _reduced((relief.height > 0).astype(np.float32))
    back = backgrounds.paint(rng, height, width) * (1 - _reduced(floor)) * (0.55 + 0.5 * lamp[2])
    return _developed(back * (1 - alpha) + _reduced(colour), rng)


def _corners(strokes: list[Stroke]) -> np.ndarray:
    """Return two opposite corners [2, 2] of the box around the hand, without its arm."""
    ends = [(np.array(p), s.radius) for s in strokes if s.framed for p in (s.start, s.end)]
    return np.array([np.min([p - r for p, r in ends], 0), np.max([p + r for p, r in ends], 0)])


def _relief(strokes: list[Stroke], unit: float, offset: np.ndarray, size: np.ndarray) -> _Relief:
    """Put strokes on top of each other; `offset` is the pixel of the origin of the hand."""
    top = np.full((size[1], size[0]), _FAR, np.float32)
    part = np.full(top.shape, SKIN, np.uint8)
    crease = np.zeros_like(top)
    for stroke in strokes:
        box = _box(stroke, unit, offset, size)
        y, x = ((np.arange(b.start, b.stop, dtype=np.float32)) for b in box)
        x = (x[None] - np.float32(offset[0])) / np.float32(unit) - np.float32(stroke.start[0])
        y = (y[:, None] - np.float32(offset[1])) / np.float32(unit) - np.float32(stroke.start[1])
        dx, dy = stroke.end[0] - stroke.start[0], stroke.end[1] - stroke.start[1]
        length = math.hypot(dx, dy) + 1e-6  # knuckles are strokes without a length
        unbounded = (x * dx + y * dy) / length**2
        along = np.clip(unbounded, 0, 1)
        radius = stroke.radius + along * (stroke.tip - stroke.radius)
        rest = radius**2 - (x - along * dx) ** 2 - (y - along * dy) ** 2
        if stroke.part in (SLEEVE, CUFF):  # cloth ends in a straight edge
            rest = np.where(unbounded < 0, -1, rest)
        # A parabola across the stroke, `radius` high in the middle and 0 at the edge.
        z = stroke.lift + rest / radius
        share = np.clip(0.5 + (z - top[box]) * (0.5 / stroke.blend), 0, 1)  # a smooth maximum
        if stroke.lift:  # it lies on the others, so it does not widen them
            share *= rest > 0
        top[box] += share * (z - top[box]) + share * (1 - share) * stroke.blend
        part[box][share > 0.5] = stroke.part
        fold = np.exp(-((along * length / 0.035) ** 2)) * stroke.crease
        crease[box] += (share > 0.5) * (fold - crease[box])
    return _Relief(top, part, crease)


def _box(stroke: Stroke, unit: float, offset: np.ndarray, size: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of an image that a stroke may touch."""
    ends = np.array([stroke.start, stroke.end]) * unit + offset
    reach = (max(stroke.radius, stroke.tip) + 0.2) * unit + 1
    low = np.clip(ends.min(0) - reach, 0, size).astype(int)
    high = np.clip(ends.max(0) + reach + 1, 0, size).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _albedo(relief: _Relief, rng: np.random.Generator) -> np.ndarray:
    """Return the colours [3, H, W] of skin, nails and clothes without light."""
    at = rng.uniform(0, len(_TONES) - 1.001)
    low, high = (np.array(_TONES[int(at) + i]) for i in (0, 1))
    tone = linear(np.clip(low + at % 1 * (high - low) + rng.normal(0, 4, 3), 5, 255))
    rows, cols = relief.height.shape
    red = np.clip(0.25 + 0.25 * soft_noise(rng, rows, cols, 6, 3), 0, 0.6)[None]
    skin = _column(*tone) * (1 - red * _column(0.0, 0.30, 0.36))
    skin = skin * (1 - relief.crease * _column(0.6, 0.9, 0.9))
    cloth, trim = linear(any_colour(rng, 0.7)), linear(any_colour(rng, 0.7))
    nail = linear(any_colour(rng, 0.9)) if rng.random() < 0.12 else 0.75 * tone + 0.2
    knit = 1 + 0.12 * soft_noise(rng, rows, cols, 50)
    for which, colour in ((SLEEVE, cloth), (CUFF, trim), (NAIL, nail)):
        shown = knit if which != NAIL else np.float32(1)
        skin = np.where(relief.part == which, _column(*colour) * shown, skin)
    return skin


def _column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None, None]


def _lamp(rng: np.random.Generator) -> np.ndarray:
    """Return the unit vector to the lamp (x right, y down, z to the viewer), mostly from above."""
    turn = rng.normal(-np.pi / 2, 0.9)
    rise = np.radians(rng.uniform(35, 65))
    flat = np.cos(rise)
    return np.array([np.cos(turn) * flat, np.sin(turn) * flat, np.sin(rise)], np.float32)


def _shaded(
    albedo: np.ndarray, relief: _Relief, unit: float, lamp: np.ndarray, key: float
) -> tuple[np.ndarray, np.ndarray]:
    """Light the hand.

    Args:
        albedo: Colours of the hand [3, H, W].
        relief: The hand.
        unit: Pixels of a unit of the hand.
        lamp: Unit vector to the lamp.
        key: Share of the light that comes from the lamp, from 0 to 1; the rest is ambient.

    Returns:
        The colours of the hand [3, H, W], which are 0 outside of it, and the darkness of its
        shadow on the background [H, W] from 0 to 1.
    """
    seen = relief.height > 0
    solid = np.maximum(relief.height, 0)
    smooth = blurred(solid, unit * 0.012)
    down, right = np.gradient(smooth * unit)
    facing = (lamp[2] - lamp[0] * right - lamp[1] * down) / np.sqrt(1 + right**2 + down**2)
    hollow = np.clip((blurred(solid, unit * 0.09) - solid) / 0.16, 0, 0.8) * seen
    hidden = np.zeros_like(solid)
    for step in (0.06, 0.12, 0.2, 0.3):  # units of the hand towards the lamp
        gap = _shifted(solid, lamp[:2] * step * unit) - solid - step * lamp[2] * 0.8 - 0.02
        hidden = np.maximum(hidden, np.clip(gap / 0.10, 0, 1))
    lit = np.clip((facing + 0.25) / 1.25, 0, 1) * (1 - 0.75 * blurred(hidden, unit * 0.02))
    light = (1.25 - 0.75 * key) * (1 - 0.8 * hollow) * 0.75 + key * lit
    shine = 0.06 * np.clip(facing, 0, 1) ** 16 * key
    floor = blurred(_shifted(seen.astype(np.float32), lamp[:2] * 0.28 * unit), unit * 0.12)
    return (albedo * light + shine) * seen, np.clip(floor, 0, 1) * key * 0.7


def _shifted(plane: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return what lies `by` (x, y) pixels away from each pixel of [H, W]; 0 outside."""
    image = Image.fromarray(plane)
    matrix = (1, 0, float(by[0]), 0, 1, float(by[1]))
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, matrix))


def _reduced(planes: np.ndarray) -> np.ndarray:
    """Return the means of blocks of pixels of [..., H, W]."""
    k = _OVERSAMPLING
    blocks = [planes[..., i::k, j::k] for i in range(k) for j in range(k)]  # faster than reshape
    return sum(blocks[1:], blocks[0]) / np.float32(k * k)


def _developed(pixels: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Convert linear values [3, H, W] to sRGB, with the exposure, blur and noise of a camera."""
    # A camera exposes for a medium grey, here only halfway and within limits.
    metered = np.clip((0.30 / max(float(pixels.mean()), 0.01)) ** 0.5, 0.75, 1.8)
    gain = metered * rng.uniform(0.85, 1.15) * rng.normal(1, 0.03, 3)
    pixels = pixels * _column(*gain)
    pixels = 1.2 * pixels / (1 + 0.3 * pixels)  # compresses highlights instead of clipping them
    srgb = np.clip(pixels, 0, 1) ** np.float32(1 / 2.2) * 255
    image = Image.fromarray(srgb.transpose(1, 2, 0).astype(np.uint8))
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    strength = np.float32(rng.uniform(0.5, 4))
    grain = rng.standard_normal((*pixels.shape[1:], 3), np.float32) * strength
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
