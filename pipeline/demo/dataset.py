"""The images of the demo, among them faulty ones.

A fault is an additional file in the folder of a class. The reasons are those of the checks of
ImageFilter, so that they can be compared with its findings.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgpipe.models.machine import progress
from imgpipe.pipeline.demo import hands
from imgpipe.pipeline.demo.hands import LABELS

TEXT = b"These are the minutes of the meeting, saved under the wrong name.\n" * 12


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


def encoded(image: Image.Image, suffix: str, quality: int = 90, **options: Any) -> bytes:
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
        data = encoded(tools.image(label, number), suffix)
        return data[: int(len(data) * share)]

    return build


def _copy(label: str, number: int) -> Callable[[Tools], bytes]:
    return lambda tools: tools.original(label, number)


def _again(label: str, number: int, quality: int, scale: float) -> Callable[[Tools], bytes]:
    """Return a builder that saves an image again, with other bytes and nearly the same pixels."""

    def build(tools: Tools) -> bytes:
        image = Image.open(io.BytesIO(tools.original(label, number)))
        size = (round(image.width * scale), round(image.height * scale))
        return encoded(image.resize(size, Image.Resampling.LANCZOS), ".jpg", quality)

    return build


def _animated(label: str, number: int) -> Callable[[Tools], bytes]:
    def build(tools: Tools) -> bytes:
        images = [tools.image(label, number + i) for i in range(3)]
        return encoded(images[0], ".gif", save_all=True, append_images=images[1:], duration=200)

    return build


def _one_pixel(tools: Tools) -> bytes:
    return encoded(Image.new("RGB", (1, 1), (200, 150, 120)), ".png")


# The numbers that are passed to `Tools.image` have no meaning, but must differ.
FAULTS: tuple[Fault, ...] = (
    Fault("zero_byte", "rock/IMG_9001.jpg", lambda tools: b""),
    Fault("truncated", "paper/IMG_9002.jpg", _faulty_image("paper", 1, ".jpg", 0.55)),
    Fault("truncated", "scissors/IMG_9003.JPG", _faulty_image("scissors", 2, ".jpg", 0.85)),
    Fault("truncated", "rock/IMG_9004.png", _faulty_image("rock", 3, ".png", 0.40)),
    Fault("not_an_image", "rock/IMG_9005.jpg", lambda tools: TEXT),
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


# Numbers of independent random streams: images of the set, of faults, and of `draw_hand`.
_SET, _FAULTS, _SINGLE = range(3)


def draw_hand(label: str, seed: int = 0, size: int = 160) -> Image.Image:
    """Draw one hand, which is in no set that `draw` makes.

    Args:
        label: The gesture, one of `LABELS`.
        seed: Seed of everything that is random in the image.
        size: Width and height in pixels.

    Returns:
        An RGB image.
    """
    return hands.render(label, _stream(_SINGLE, label, 0, seed), size, size)


def draw(directory: Path, per_class: int = 120, size: int = 160, faults: bool = True) -> Path:
    """Draw images of each gesture into a folder, and plant faults among them.

    The same arguments give the same bytes with the same machine and library versions.

    Args:
        directory: The folder, which is created if it does not exist.
        per_class: Number of good images of each class, at least 4, because faults copy some.
        size: Length of the shorter side in pixels. Every sixth image has the ratio 4:3 or 3:4.
        faults: Whether to add the files of `faults.FAULTS`.

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
        image=lambda label, n: hands.render(label, _stream(_FAULTS, label, n), size, size),
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
    return encoded(hands.render(label, rng, width, height), suffix, quality)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    progress.advance(1, "images")
