"""Draws a flat hand: lines with round ends for the arm, the palm and the fingers, on a background.

A right hand is seen with the wrist at (0, 0) and the knuckles at y = 1; the thumb is on the side of
negative x. Everything else is random: the posture, the colours, the light and the background.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

LABELS = ("paper", "rock", "scissors")
_SKIN, _CLOTH = range(2)
_OVERSAMPLING = 2  # pixels of the drawing for each pixel of the image, for smooth edges
#: For the index finger to the little finger: knuckle, length and radius.
_FINGERS = (
    ((-0.33, 0.96), 0.80, 0.125),
    ((-0.11, 1.01), 0.90, 0.128),
    ((0.11, 0.97), 0.83, 0.122),
    ((0.30, 0.86), 0.64, 0.108),
)
#: sRGB values of skin from light to dark. The skin of an image lies between two neighbours.
_TONES = ((246, 218, 198), (233, 191, 162), (214, 165, 128), (166, 114, 79), (104, 66, 46))

Point = tuple[float, float]


@dataclass(frozen=True)
class _Stroke:
    """A line with round ends. Lengths are in units of the hand."""

    points: tuple[Point, ...]
    radius: float
    part: int = _SKIN
    edge: bool = True  # whether it has an outline, which separates it from those below it


def render(label: str, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw a hand.

    Args:
        label: The gesture, one of `LABELS`.
        rng: Source of randomness for everything else.
        width: Width in pixels.
        height: Height in pixels.

    Returns:
        An RGB image.
    """
    size = np.array([width, height]) * _OVERSAMPLING
    image = _background(rng, *map(int, size))
    gesture = {"rock": _rock, "paper": _paper, "scissors": _scissors}[label]
    strokes = [*_arm(rng), *_palm(), *gesture(rng)]
    placed = _placed(strokes, rng, size)
    at = rng.uniform(0, len(_TONES) - 1.001)
    low, high = (np.array(_TONES[int(at) + i]) for i in (0, 1))
    colours = (low + at % 1 * (high - low) + rng.normal(0, 4, 3), _colour(rng))
    pen = ImageDraw.Draw(image)
    for stroke, points, radius in placed:
        colour = colours[stroke.part]
        if stroke.edge:
            _line(pen, points, radius, colour * 0.55)
        _line(pen, points, radius * (0.88 if stroke.edge else 1), colour)
    return _developed(image.reduce(_OVERSAMPLING), rng)


def _arm(rng: np.random.Generator) -> Iterator[_Stroke]:
    """Yield the forearm, mostly with a sleeve."""
    lean = rng.uniform(-1.0, 1.0)
    yield _Stroke(((0, 0), (lean, -3.5)), 0.33)
    if rng.random() < 0.65:
        cuff = rng.uniform(0.15, 0.7)
        yield _Stroke(((lean * cuff / 3.5, -cuff - 0.3), (lean, -3.5)), 0.42, _CLOTH)


def _palm() -> Iterator[_Stroke]:
    for x, (knuckle, _, radius) in zip((-0.19, -0.07, 0.07, 0.18), _FINGERS, strict=True):
        yield _Stroke(((x, 0.14), (knuckle[0], knuckle[1] - 0.06)), radius + 0.07, edge=False)


def _straight(rng: np.random.Generator, number: int, angle: float) -> _Stroke:
    """Return a straight finger at an angle in degrees."""
    (x, y), length, radius = _FINGERS[number]
    angle = math.radians(angle + rng.normal(0, 2.5))
    length *= rng.uniform(0.88, 1.08)
    tip = (x + math.sin(angle) * length, y + math.cos(angle) * length)
    return _Stroke(((x * 0.7, y - 0.3), (x, y), tip), radius)


def _folded(rng: np.random.Generator, *numbers: int) -> Iterator[_Stroke]:
    """Yield closed fingers."""
    for number in numbers:
        (x, y), _, radius = _FINGERS[number]
        shift = rng.normal(0, 0.015)
        yield _Stroke(((x + shift, y + 0.04), (x * 0.86, y - 0.36 + shift)), radius * 1.05)


def _thumb(rng: np.random.Generator, *points: Point) -> _Stroke:
    (x, y) = points[-1]
    tip = (x + rng.normal(0, 0.04), y + rng.normal(0, 0.03))
    return _Stroke((*points[:-1], tip), 0.125)


def _rock(rng: np.random.Generator) -> Iterator[_Stroke]:
    yield from _folded(rng, 3, 2, 1, 0)
    across = rng.random() < 0.75  # of the fingers, or along the side of the index finger
    yield _thumb(rng, (-0.34, 0.28), (-0.42, 0.56), (0.02, 0.54) if across else (-0.42, 0.94))


def _paper(rng: np.random.Generator) -> Iterator[_Stroke]:
    spread = rng.uniform(0.45, 1.5)
    lean = rng.normal(0, 3)
    for number, angle in enumerate((-13, -3, 7, 19)):
        yield _straight(rng, number, angle * spread + lean)
    out = rng.uniform(0, 1)  # 0: the thumb lies along the palm; 1: it is spread
    tip = (-0.62 - 0.38 * out, 0.86 - 0.14 * out)
    yield _thumb(rng, (-0.24, 0.26), (-0.48 - 0.16 * out, 0.56), tip)


def _scissors(rng: np.random.Generator) -> Iterator[_Stroke]:
    opening = rng.uniform(24, 46)
    lean = rng.normal(0, 4)
    yield _straight(rng, 0, lean - opening * 0.55)
    yield _straight(rng, 1, lean + opening * 0.45)
    yield from _folded(rng, 3, 2)
    yield _thumb(rng, (-0.30, 0.28), (-0.30, 0.54), (0.10, 0.62))


def _placed(
    strokes: list[_Stroke], rng: np.random.Generator, size: np.ndarray
) -> list[tuple[_Stroke, np.ndarray, float]]:
    """Turn, mirror and scale a hand, and return each stroke with its points and radius in pixels.

    Args:
        strokes: Strokes whose y points up.
        rng: Source of randomness.
        size: Width and height of the drawing in pixels.
    """
    turn = rng.normal(0, 22)
    if rng.random() < 0.15:  # some hands come from the side
        turn += rng.choice((-90, 90))
    cos = math.cos(math.radians(turn))
    sin = math.sin(math.radians(turn))
    mirror = rng.choice((-1, 1))
    squeeze = rng.uniform(0.82, 1.0)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([mirror * squeeze, -1.0])
    turned = [np.array(stroke.points) @ matrix.T for stroke in strokes]
    hand = np.concatenate([p for p, s in zip(turned, strokes, strict=True) if s.points[-1][1] > 0])
    low = hand.min(0) - 0.15
    high = hand.max(0) + 0.15
    unit = float(rng.uniform(0.70, 0.94) * min(size / (high - low)))
    unit = min(unit, 0.5 * float(size.min()))  # otherwise a fist, whose box is small, is huge
    offset = size / 2 + rng.normal(0, 0.035, 2) * size - unit * (low + high) / 2
    girth = rng.uniform(0.9, 1.1) * unit
    return [
        (stroke, points * unit + offset, stroke.radius * girth)
        for stroke, points in zip(strokes, turned, strict=True)
    ]


def _line(pen: ImageDraw.ImageDraw, points: np.ndarray, radius: float, colour: np.ndarray) -> None:
    fill = tuple(np.clip(colour, 0, 255).astype(int).tolist())
    pen.line([tuple(point) for point in points], fill=fill, width=round(2 * radius))
    for x, y in points:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _colour(rng: np.random.Generator, vivid: float = 0.7) -> np.ndarray:
    """Return a random colour as sRGB values [3]; `vivid` is the largest saturation, 0..1."""
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, vivid), rng.uniform(0.15, 0.95))
    return np.array(rgb) * 255


def _background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Paint soft spots of two colours, mostly with some shapes on them."""
    cells = int(rng.integers(2, 9))
    noise = rng.random((cells, cells), np.float32)[..., None]
    first = _colour(rng)
    second = _colour(rng)
    spots = (first + noise * rng.uniform(0.1, 0.7) * (second - first)).astype(np.uint8)
    image = Image.fromarray(spots).resize((width, height), Image.Resampling.BICUBIC)
    if rng.random() < 0.6:
        pen = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(1, 12))):
            fill = tuple(_colour(rng).astype(int).tolist())
            x, y = rng.uniform(-0.1, 1.0, 2) * (width, height)
            a, b = rng.uniform(0.04, 0.4, 2) * max(width, height)
            draw = pen.ellipse if rng.random() < 0.5 else pen.rectangle
            draw((x, y, x + a, y + b), fill=fill)
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 6.0)))
    return image


def _developed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add the light, the exposure, the blur and the noise of a photograph."""
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6)))
    pixels = np.asarray(image, np.float32)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    strength = rng.uniform(0.1, 0.6)
    light = 1 + strength * (x * math.cos(angle) + y * math.sin(angle))
    exposure = rng.uniform(0.85, 1.15) * rng.normal(1, 0.03, 3)
    grain = rng.standard_normal(pixels.shape, np.float32) * rng.uniform(0.5, 4)
    lit = pixels * light[..., None] * exposure + grain
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
