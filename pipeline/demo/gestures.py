"""The gestures, as strokes with round ends: the arm, the palm, and the bones of the fingers.

A right hand is seen from its back: the wrist is at (0, 0), the knuckles are at y = 1, and the thumb
is on the side of negative x. `sample` turns, mirrors and bends it at random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LABELS = ("paper", "rock", "scissors")
SKIN, NAIL, SLEEVE, CUFF = range(4)

Point = tuple[float, float]

# For the index finger to the little finger: knuckle, length, and radius.
_FINGERS = (
    ((-0.33, 0.96), 0.80, 0.125),
    ((-0.11, 1.01), 0.90, 0.128),
    ((0.11, 0.97), 0.83, 0.122),
    ((0.30, 0.86), 0.64, 0.108),
)


@dataclass(frozen=True)
class Stroke:
    """A line with round ends and a round cross-section. Lengths are in units of the hand.

    Attributes:
        start: One end.
        end: The other end.
        radius: Radius at `start`.
        tip: Radius at `end`.
        lift: Height of the line towards the viewer.
        blend: Width over which the stroke melts into those below it.
        part: What it shows: `SKIN`, `NAIL`, `SLEEVE` or `CUFF`.
        crease: Darkness of the fold of the skin at `start`, from 0 to 1.
        framed: Whether it must be inside of the image; the arm need not.
    """

    start: Point
    end: Point
    radius: float
    tip: float
    lift: float = 0.0
    blend: float = 0.03
    part: int = SKIN
    crease: float = 0.0
    framed: bool = True


def sample(label: str, rng: np.random.Generator) -> list[Stroke]:
    """Return the strokes of a hand, from back to front.

    Args:
        label: The gesture, one of `LABELS`.
        rng: Source of randomness for everything else.

    Returns:
        Strokes, whose y points down as in an image.

    Raises:
        KeyError: The label is unknown.
    """
    gesture = {"rock": _rock, "paper": _paper, "scissors": _scissors}[label]
    strokes = [*_arm(rng), *gesture(rng)]
    turn = rng.normal(0, 22)
    if rng.random() < 0.15:  # some hands come from the side
        turn += rng.choice((-90, 90))
    girth, squeeze = rng.uniform(0.9, 1.1), rng.uniform(0.82, 1.0)
    mirror = rng.choice((-1, 1))
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([mirror * squeeze, -1.0])

    def placed(point: Point) -> Point:
        x, y = matrix @ point
        return float(x), float(y)

    return [
        dataclasses.replace(
            s,
            start=placed(s.start),
            end=placed(s.end),
            radius=s.radius * girth,
            tip=s.tip * girth,
        )
        for s in strokes
    ]


def _arm(rng: np.random.Generator) -> Iterator[Stroke]:
    """Yield the forearm, mostly with a sleeve."""
    lean = rng.uniform(-0.3, 0.3)

    def tube(start: float, end: float, extra: float, part: int) -> Iterator[Stroke]:
        for side in (-1, 1):
            a, b = ((lean * y + side * (0.12 - 0.03 * y), -y) for y in (start, end))
            r = 0.18 + extra
            blend = 0.3 if part == SKIN or side == 1 else 0.01
            yield Stroke(a, b, r + 0.03 * start, r + 0.03 * end, 0, blend, part, framed=False)

    yield from tube(-0.15, 3.5, 0.0, SKIN)
    if rng.random() < 0.65:
        cuff = rng.uniform(0.15, 0.7)
        yield from tube(cuff, 3.5, rng.uniform(0.05, 0.12), SLEEVE)
        if rng.random() < 0.6:
            yield from tube(cuff, cuff + rng.uniform(0.06, 0.18), 0.13, CUFF)


def _palm(knuckles: bool) -> Iterator[Stroke]:
    """Yield the palm or the back of the hand."""
    for x, (knuckle, _, radius) in zip((-0.19, -0.07, 0.07, 0.18), _FINGERS, strict=True):
        end = (knuckle[0], knuckle[1] - 0.06)
        yield Stroke((x, 0.14), end, 0.19, radius + 0.055, 0, 0.4)
        if knuckles:
            yield Stroke(knuckle, knuckle, 0.12, 0.12, 0.06, 0.15)


def _finger(
    rng: np.random.Generator, number: int, angle: float, length: float, back: bool
) -> Iterator[Stroke]:
    """Yield a straight finger at an angle in degrees, with a nail if it is seen from the back."""
    point, full, radius = _FINGERS[number]
    for i, share in enumerate((0.46, 0.30, 0.24)):
        angle += rng.normal(0, 2.5)
        step = share * full * length
        x, y = np.sin(np.radians(angle)), np.cos(np.radians(angle))
        end = (point[0] + x * step, point[1] + y * step)
        a, b = radius * (1 - 0.07 * i), radius * (0.96 - 0.08 * i)
        yield Stroke(point, end, a, b, 0, 0.02 if i else 0.12, crease=0.28 if i else 0.1)
        if back and i == 2:
            near = (point[0] + x * step * 0.75, point[1] + y * step * 0.75)
            far = (end[0] + x * 0.02, end[1] + y * 0.02)
            yield Stroke(near, far, b * 0.62, b * 0.66, b * 0.68, 0.005, NAIL)
        point = end


def _thumb(points: tuple[Point, Point, Point], lift: float, nail: bool) -> Iterator[Stroke]:
    """Yield a thumb through three points."""
    a, b, c = points
    yield Stroke(a, b, 0.165, 0.125, lift * 0.6, 0.16)
    yield Stroke(b, c, 0.125, 0.105, lift, 0.03, crease=0.25)
    if nail:
        (x, y), (u, v) = b, c
        near = (x + (u - x) * 0.75, y + (v - y) * 0.75)
        far = (u + (u - x) * 0.05, v + (v - y) * 0.05)
        yield Stroke(near, far, 0.068, 0.07, lift + 0.07, 0.005, NAIL)


def _folded(rng: np.random.Generator, numbers: tuple[int, ...], back: bool) -> Iterator[Stroke]:
    """Yield closed fingers, seen from the back (only their first bones) or from the palm."""
    for n in numbers:
        (x, y), _, radius = _FINGERS[n]
        jitter = rng.normal(0, 0.012, 2)
        if back:
            tip = (x * 0.94 + jitter[0], y + 0.13 + jitter[1])
            yield Stroke((x, y - 0.05), tip, radius, radius * 0.95, 0.03, 0.02)
            continue
        top, low = (x + jitter[0], y + 0.04), (x * 0.86, y - 0.36 + jitter[1])
        yield Stroke(top, low, radius * 1.05, radius * 0.95, 0.12, 0.02)
        bent = (x * 0.8, y - 0.46 + jitter[1])
        yield Stroke(low, bent, radius * 0.9, radius * 0.8, 0.06, 0.02, crease=0.3)


def _rock(rng: np.random.Generator) -> Iterator[Stroke]:
    back = rng.random() < 0.4
    yield from _palm(knuckles=back)
    if back:
        thumb = ((-0.26, 0.30), (-0.44, 0.62), (-0.44 + rng.normal(0, 0.03), 0.92))
        yield from _thumb(thumb, 0.0, nail=False)
        yield from _folded(rng, (3, 2, 1, 0), back=True)
        return
    yield from _folded(rng, (3, 2, 1, 0), back=False)
    if rng.random() < 0.75:  # the thumb lies across the fingers
        thumb = ((-0.34, 0.28), (-0.40, 0.56), (0.02 + rng.normal(0, 0.05), 0.56))
    else:  # or along the side of the index finger
        thumb = ((-0.34, 0.28), (-0.46, 0.60), (-0.40, 0.94 + rng.normal(0, 0.03)))
    yield from _thumb(thumb, 0.24, nail=True)


def _paper(rng: np.random.Generator) -> Iterator[Stroke]:
    back = bool(rng.random() < 0.5)
    yield from _palm(knuckles=back)
    spread, lean = rng.uniform(0.45, 1.5), rng.normal(0, 3)
    length = rng.uniform(0.88, 1.08)
    for n, angle in enumerate((-13, -3, 7, 19)):
        yield from _finger(rng, n, angle * spread + lean, length, back)
    out = rng.uniform(0, 1)  # 0: the thumb lies along the palm; 1: it is spread
    tip = (-0.62 - 0.38 * out, 0.86 - 0.14 * out)
    yield from _thumb(((-0.24, 0.26), (-0.48 - 0.16 * out, 0.56), tip), 0.0, back)


def _scissors(rng: np.random.Generator) -> Iterator[Stroke]:
    back = bool(rng.random() < 0.5)
    yield from _palm(knuckles=back)
    opening, lean = rng.uniform(24, 46), rng.normal(0, 4)
    length = rng.uniform(0.9, 1.08)
    yield from _finger(rng, 0, lean - opening * 0.55, length, back)
    yield from _finger(rng, 1, lean + opening * 0.45, length, back)
    if back:
        yield from _folded(rng, (3, 2), back=True)
        yield from _thumb(((-0.26, 0.28), (-0.42, 0.52), (-0.36, 0.74)), -0.05, nail=False)
        return
    yield from _folded(rng, (3, 2), back=False)
    tip = (0.10 + rng.normal(0, 0.04), 0.64 + rng.normal(0, 0.03))
    yield from _thumb(((-0.30, 0.28), (-0.30, 0.54), tip), 0.24, nail=True)
