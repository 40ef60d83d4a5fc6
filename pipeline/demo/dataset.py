"""Draws the demo set: a folder with a sub-folder for each class, and files with planted faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from imgpipe.models.machine import progress
from imgpipe.pipeline.demo import hands
from imgpipe.pipeline.demo.faults import FAULTS, Tools, encoded
from imgpipe.pipeline.demo.hands import LABELS

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
