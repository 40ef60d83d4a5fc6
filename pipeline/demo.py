"""A computer-generated rock-paper-scissors set with planted faults, for `imgpipe demo`.

Every image is computed, so the set has no licence of other people and needs no network. Only NumPy
and Pillow are used, so images can be drawn while TensorFlow is still being imported.

An image is made of lines with round ends: some of them anywhere, and in front those of a hand.
Points are complex numbers, so that one multiplication turns and scales a hand. In a hand, 0 is the
middle of the palm, 1 its radius, and -1j the direction of the fingers.

A fault is an additional file in the folder of a class. The reasons are those of the checks of
ImageFilter, so that they can be compared with its findings.
"""

from __future__ import annotations

import cmath
import io
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from imgpipe.models.machine import progress

LABELS = ("paper", "rock", "scissors")
#: Of each finger: the knuckle, and the tip of the straight and of the folded finger.
_FINGERS = {
    "index": (-0.6 - 0.7j, -1.1 - 2.1j, -0.5 + 0.1j),
    "middle": (-0.2 - 0.9j, -0.2 - 2.4j, -0.2),
    "ring": (0.2 - 0.9j, 0.4 - 2.3j, 0.2),
    "little": (0.6 - 0.7j, 1.1 - 1.9j, 0.5 + 0.1j),
    "thumb": (-0.7 + 0.3j, -1.7 - 0.4j, 0.2 + 0.2j),
}
#: The straight fingers of each gesture.
_STRAIGHT = {"paper": set(_FINGERS), "rock": set(), "scissors": {"index", "middle"}}
_SKINS = ((246, 218, 198), (233, 191, 162), (214, 165, 128), (166, 114, 79), (104, 66, 46))
#: Numbers of independent random streams: images of the set, of faults, and of `draw_hand`.
_SET, _FAULTS, _SINGLE = range(3)
_TEXT = b"These are the minutes of the meeting, saved under the wrong name.\n" * 12

Builder = Callable[[Path, int], bytes]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Fault:
    """One planted file.

    Attributes:
        reason: Reason under which ImageFilter finds it.
        path: Path of the file, in the folder of its class.
        build: Function of the folder of the set and the size of images, which returns its bytes.
    """

    reason: str
    path: str
    build: Builder


def _encoded(image: Image.Image, suffix: str, quality: int = 90, **options: Any) -> bytes:
    """Encode an image in the format of a suffix, with a quality if it is JPEG."""
    buffer = io.BytesIO()
    form = Image.registered_extensions()[suffix.lower()]
    image.save(buffer, form, quality=quality, **options)
    return buffer.getvalue()


def _data(data: bytes) -> Builder:
    return lambda directory, size: data


def _new(label: str, number: int, suffix: str, share: float = 1.0) -> Builder:
    """Return a builder that encodes a hand of no other file, and keeps a share of its bytes."""

    def build(directory: Path, size: int) -> bytes:
        image = _hand(label, _stream(_FAULTS, label, number), size, size)
        data = _encoded(image, suffix)
        return data[: int(len(data) * share)]

    return build


def _copy(path: str) -> Builder:
    return lambda directory, size: (directory / path).read_bytes()


def _again(path: str, quality: int, scale: float) -> Builder:
    """Return a builder that saves an image again, with other bytes and nearly the same pixels."""

    def build(directory: Path, size: int) -> bytes:
        with Image.open(directory / path) as image:
            return _encoded(ImageOps.scale(image, scale), ".jpg", quality)

    return build


def _animated(directory: Path, size: int) -> bytes:
    images = [_hand("scissors", _stream(_FAULTS, "scissors", n), size, size) for n in (4, 5, 6)]
    return _encoded(images[0], ".gif", save_all=True, append_images=images[1:], duration=200)


# The numbers that are passed to `_new` have no meaning, but must differ.
FAULTS: tuple[Fault, ...] = (
    Fault("zero_byte", "rock/IMG_9001.jpg", _data(b"")),
    Fault("truncated", "paper/IMG_9002.jpg", _new("paper", 1, ".jpg", 0.55)),
    Fault("truncated", "scissors/IMG_9003.JPG", _new("scissors", 2, ".jpg", 0.85)),
    Fault("truncated", "rock/IMG_9004.png", _new("rock", 3, ".png", 0.40)),
    Fault("not_an_image", "rock/IMG_9005.jpg", _data(_TEXT)),
    Fault("too_small", "scissors/IMG_9006.png", _data(_encoded(Image.new("RGB", (1, 1)), ".png"))),
    Fault("animated", "scissors/IMG_9007.gif", _animated),
    Fault("duplicate", "rock/IMG_0001_copy.jpg", _copy("rock/IMG_0001.jpg")),
    Fault("duplicate", "scissors/IMG_0001_copy.jpg", _copy("scissors/IMG_0001.jpg")),
    Fault("label_conflict", "paper/IMG_9008.jpg", _copy("scissors/IMG_0002.jpg")),  # both files
    Fault("transcoded", "paper/IMG_9010.tif", _new("paper", 8, ".tif")),
    Fault("mislabelled", "rock/IMG_9012.jpg", _new("paper", 10, ".jpg")),
    Fault("mislabelled", "scissors/IMG_9013.jpg", _new("rock", 11, ".jpg")),
    Fault("near_duplicate", "rock/IMG_9014.jpg", _again("rock/IMG_0002.jpg", 60, 1.0)),
    Fault("near_duplicate", "paper/IMG_9015.jpg", _again("paper/IMG_0002.jpg", 85, 0.9)),
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
    return _hand(label, _stream(_SINGLE, label, seed), size, size)


def draw(directory: Path, per_class: int = 120, size: int = 160, faults: bool = True) -> Path:
    """Draw images of each gesture into a folder, and plant faults among them.

    The same arguments give the same bytes with the same machine and library versions.

    Args:
        directory: The folder, which is created if it does not exist.
        per_class: Number of good images of each class, at least 2, because faults copy some.
        size: Length of the shorter side in pixels. Every sixth image has the ratio 4:3 or 3:4.
        faults: Whether to add the files of `FAULTS`.

    Returns:
        The folder.
    """
    planted = FAULTS if faults else ()
    progress.total(len(LABELS) * per_class + len(planted), "images")
    longer = round(size * 4 / 3)
    shapes = {4: (longer, size), 10: (size, longer)}
    suffixes = {3: ".JPG", 5: ".png", 7: ".jpeg"}
    for number, label in itertools.product(range(per_class), LABELS):
        width, height = shapes.get(number % 12, (size, size))
        suffix = suffixes.get(number % 13, ".jpg")
        image = _hand(label, _stream(_SET, label, number), width, height)
        _write(directory / f"{label}/IMG_{number + 1:04d}{suffix}", _encoded(image, suffix))
    for fault in planted:
        _write(directory / fault.path, fault.build(directory, size))
    return directory


def _stream(use: int, label: str, number: int) -> np.random.Generator:
    # A generator for each image, so that an image does not depend on how many are drawn before it.
    return np.random.default_rng([use, LABELS.index(label), number])


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    progress.advance(1, "images")


def _hand(label: str, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw a hand that makes a gesture of `LABELS` as an RGB image of this size in pixels."""
    size = np.array([width, height]) * 2  # halved at the end, for smooth edges
    image = Image.new("RGB", (2 * width, 2 * height), _colour(rng))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 7)):
        ends = [complex(*rng.uniform(0, size)) for _ in range(2)]
        _line(pen, ends, rng.uniform(0.06, 0.18) * min(size), _colour(rng))
    middle = complex(*rng.normal((0.5, 0.6), 0.06) * size)
    turn = cmath.rect(rng.uniform(0.16, 0.21) * min(size), math.radians(rng.normal(0, 18)))
    red, green, blue = _SKINS[rng.integers(len(_SKINS))]
    for radius, *points in _strokes(label, rng):
        ends = [middle + turn * point for point in points]
        _line(pen, ends, radius * abs(turn), (red // 2, green // 2, blue // 2))  # the outline
        _line(pen, ends, radius * abs(turn) * 0.88, (red, green, blue))
    if rng.random() < 0.5:  # the other hand
        image = ImageOps.mirror(image)
    return image.reduce(2)


def _strokes(label: str, rng: np.random.Generator) -> Iterator[tuple[float, complex, complex]]:
    """Yield radius and ends of the lines of a hand: the arm, the palm and the fingers."""
    yield 0.65, 0, 8j + rng.normal(0, 2)
    yield 1.0, 0, 0
    for finger, (knuckle, straight, folded) in _FINGERS.items():
        tip = straight if finger in _STRAIGHT[label] else folded
        yield 0.27, knuckle, tip + complex(*rng.normal(0, 0.12, 2))


def _line(pen: ImageDraw.ImageDraw, ends: list[complex], radius: float, colour: Colour) -> None:
    pen.line([(end.real, end.imag) for end in ends], colour, round(2 * radius))
    for end in ends:
        pen.circle((end.real, end.imag), radius, colour)


def _colour(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(40, 220, 3))
    return red, green, blue
