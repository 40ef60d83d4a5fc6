"""A computer-generated rock-paper-scissors set with planted faults, for `imgpipe demo`.

Every image is computed, so the set has no licence of other people and needs no network. Only NumPy
and Pillow are used, so images can be drawn while TensorFlow is still being imported.

An image is a flat hand: lines with round ends for the arm, the palm and the fingers, on a
background. A right hand is seen with the wrist at (0, 0) and the knuckles at y = 1; the thumb is on
the side of negative x. Everything else is random: the posture, the colours, the light and the
background.

A fault is an additional file in the folder of a class. The reasons are those of the checks of
ImageFilter, so that they can be compared with its findings.
"""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from imgpipe.models.machine import progress

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
#: Numbers of independent random streams: images of the set, of faults, and of `draw_hand`.
_SET, _FAULTS, _SINGLE = range(3)
_TEXT = b"These are the minutes of the meeting, saved under the wrong name.\n" * 12

Point = tuple[float, float]


@dataclass(frozen=True)
class Fault:
    """One planted file.

    Attributes:
        reason: Reason under which ImageFilter finds it.
        path: Path of the file, in the folder of its class.
        build: Function that returns its bytes.
    """

    reason: str
    path: str
    build: Callable[[Tools], bytes]


@dataclass(frozen=True)
class Tools:
    """Functions that return images for the builders of faults."""

    image: Callable[[str, int], Image.Image]  # from label and number to a hand of no other file
    original: Callable[[str, int], bytes]  # from class and number to a file of the set


def _encoded(image: Image.Image, suffix: str, quality: int = 90, **options: Any) -> bytes:
    """Encode an image in the format of a suffix, with a quality if it is JPEG."""
    buffer = io.BytesIO()
    form = Image.registered_extensions()[suffix.lower()]
    image.save(buffer, form, **({"quality": quality, **options} if form == "JPEG" else options))
    return buffer.getvalue()


def _faulty_image(
    label: str, number: int, suffix: str, share: float = 1.0
) -> Callable[[Tools], bytes]:
    """Return a builder that encodes an image, and keeps only a share of its bytes."""

    def build(tools: Tools) -> bytes:
        data = _encoded(tools.image(label, number), suffix)
        return data[: int(len(data) * share)]

    return build


def _copy(label: str, number: int) -> Callable[[Tools], bytes]:
    return lambda tools: tools.original(label, number)


def _again(label: str, number: int, quality: int, scale: float) -> Callable[[Tools], bytes]:
    """Return a builder that saves an image again, with other bytes and nearly the same pixels."""

    def build(tools: Tools) -> bytes:
        image = Image.open(io.BytesIO(tools.original(label, number)))
        size = (round(image.width * scale), round(image.height * scale))
        return _encoded(image.resize(size, Image.Resampling.LANCZOS), ".jpg", quality)

    return build


def _animated(label: str, number: int) -> Callable[[Tools], bytes]:
    def build(tools: Tools) -> bytes:
        images = [tools.image(label, number + i) for i in range(3)]
        return _encoded(images[0], ".gif", save_all=True, append_images=images[1:], duration=200)

    return build


def _one_pixel(tools: Tools) -> bytes:
    return _encoded(Image.new("RGB", (1, 1), (200, 150, 120)), ".png")


# The numbers that are passed to `Tools.image` have no meaning, but must differ.
FAULTS: tuple[Fault, ...] = (
    Fault("zero_byte", "rock/IMG_9001.jpg", lambda tools: b""),
    Fault("truncated", "paper/IMG_9002.jpg", _faulty_image("paper", 1, ".jpg", 0.55)),
    Fault("truncated", "scissors/IMG_9003.JPG", _faulty_image("scissors", 2, ".jpg", 0.85)),
    Fault("truncated", "rock/IMG_9004.png", _faulty_image("rock", 3, ".png", 0.40)),
    Fault("not_an_image", "rock/IMG_9005.jpg", lambda tools: _TEXT),
    Fault("too_small", "scissors/IMG_9006.png", _one_pixel),
    Fault("animated", "scissors/IMG_9007.gif", _animated("scissors", 4)),
    Fault("duplicate", "rock/IMG_0001_copy.jpg", _copy("rock", 0)),
    Fault("duplicate", "scissors/IMG_0001_copy.jpg", _copy("scissors", 0)),
    Fault("label_conflict", "paper/IMG_9008.jpg", _copy("scissors", 1)),  # the original too
    Fault("transcoded", "paper/IMG_9010.tif", _faulty_image("paper", 8, ".tif")),
    Fault("mislabelled", "rock/IMG_9012.jpg", _faulty_image("paper", 10, ".jpg")),
    Fault("mislabelled", "scissors/IMG_9013.jpg", _faulty_image("rock", 11, ".jpg")),
    Fault("near_duplicate", "rock/IMG_9014.jpg", _again("rock", 1, 60, 1.0)),
    Fault("near_duplicate", "paper/IMG_9015.jpg", _again("paper", 1, 85, 0.9)),
)


def draw_hand(label: str, seed: int = 0, size: int = 160) -> Image.Image:
    """Draw one hand, which is in no set that `draw` makes.

    Args:
        label: The gesture, one of `LABELS`.
        seed: Seed of everything that is random in the image.
        size: Width and height in pixels.

    Returns:
        An RGB image.
    """
    return _hand(label, _stream(_SINGLE, label, 0, seed), size, size)


def draw(directory: Path, per_class: int = 120, size: int = 160, faults: bool = True) -> Path:
    """Draw images of each gesture into a folder, and plant faults among them.

    The same arguments give the same bytes with the same machine and library versions.

    Args:
        directory: The folder, which is created if it does not exist.
        per_class: Number of good images of each class, at least 4, because faults copy some.
        size: Length of the shorter side in pixels. Every sixth image has the ratio 4:3 or 3:4.
        faults: Whether to add the files of `FAULTS`.

    Returns:
        The folder.
    """
    images = {(label, i): _path(label, i) for i in range(per_class) for label in LABELS}
    planted = FAULTS if faults else ()
    progress.total(len(images) + len(planted), "images")
    for (label, i), path in images.items():
        rng = _stream(_SET, label, i)
        _write(directory / path, _image(label, rng, size, Path(path).suffix))
    tools = Tools(
        image=lambda label, n: _hand(label, _stream(_FAULTS, label, n), size, size),
        original=lambda label, n: (directory / images[label, n]).read_bytes(),
    )
    for fault in planted:
        _write(directory / fault.path, fault.build(tools))
    return directory


def _stream(use: int, label: str, number: int, seed: int = 0) -> np.random.Generator:
    # A generator for each image, so that an image does not depend on how many are drawn before it.
    return np.random.default_rng([seed, use, LABELS.index(label), number])


def _path(label: str, number: int) -> str:
    """Return the path of an image, with mostly .jpg, and sometimes another usual suffix."""
    suffix = ".jpeg" if number % 13 == 7 else ".jpg"
    if number % 11 == 3:
        suffix = ".JPG"
    if number % 17 == 5:
        suffix = ".png"
    return f"{label}/IMG_{number + 1:04d}{suffix}"


def _image(label: str, rng: np.random.Generator, size: int, suffix: str) -> bytes:
    longer = round(size * 4 / 3)
    shapes = ((size, size), (longer, size), (size, longer))  # width, height
    width, height = shapes[int(rng.choice(3, p=(0.84, 0.10, 0.06)))]
    quality = int(rng.integers(72, 96))
    return _encoded(_hand(label, rng, width, height), suffix, quality)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    progress.advance(1, "images")


@dataclass(frozen=True)
class _Stroke:
    """A line with round ends. Lengths are in units of the hand."""

    points: tuple[Point, ...]
    radius: float
    part: int = _SKIN
    edge: bool = True  # whether it has an outline, which separates it from those below it


def _hand(label: str, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw a hand that makes a gesture of `LABELS` as an RGB image of this size in pixels."""
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

    In `strokes`, y points up; `size` is the width and height of the drawing in pixels.
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
            shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
            shape((x, y, x + a, y + b), fill=fill)
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
