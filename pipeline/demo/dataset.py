"""Draws the demo set: a folder with a sub-folder for each class, and files with planted faults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.demo import hands
from imgpipe.pipeline.demo.faults import FAULTS, LEAKS, Fault, Tools, encoded
from imgpipe.pipeline.demo.hands import LABELS

SMALLEST_SET = 4  # images of a class, because faults copy some and each split needs one
SMALLEST_SIZE = 48  # pixels; in smaller images a person cannot distinguish the gestures
_HELD_OUT = 0.1  # share of validation, and of test, if there are folders of splits
# Numbers of independent random streams: images of the set, of faults, and of `draw_hand`.
_SET, _FAULTS, _SINGLE = range(3)


@dataclass(frozen=True)
class DemoSet:
    """The result of `draw`.

    Attributes:
        directory: The folder.
        counts: Number of good images of each class.
        files: Number of all files that were written.
        planted: Relative paths of the files at fault, by reason. Of identical files these are the
            copies, of a label conflict both files, because neither label is known to be right, and
            of a leak between splits the file in train.
    """

    directory: Path
    counts: dict[str, int]
    files: int
    planted: dict[str, list[str]]


def draw_hand(label: str, seed: int = 0, size: int = 160) -> Image.Image:
    """Draw one hand, which is in no set that `draw` makes.

    Args:
        label: The gesture, one of `LABELS`.
        seed: Seed of everything that is random in the image.
        size: Width and height in pixels.

    Returns:
        An RGB image.

    Raises:
        ConfigError: The label is unknown, the seed is negative, or the size is too small.
    """
    _check(seed=seed, size=size)
    if label not in LABELS:
        raise ConfigError(f"There is no hand for {label!r}: expected one of {', '.join(LABELS)}.")
    return hands.render(label, _stream(seed, _SINGLE, label, 0), size, size)


def draw(
    directory: Path,
    per_class: int = 120,
    size: int = 160,
    seed: int = 0,
    faults: bool = True,
    split_folders: bool = False,
) -> DemoSet:
    """Draw images of each gesture into a folder, and plant faults among them.

    The same arguments give the same bytes with the same machine and library versions. The set may
    be drawn again into the same folder. A folder with other files is refused before anything is
    written.

    Args:
        directory: The folder, which is created if it does not exist.
        per_class: Number of good images of each class.
        size: Length of the shorter side in pixels. Every sixth image has the ratio 4:3 or 3:4.
        seed: Seed of everything that is random.
        faults: Whether to add the files of `faults.FAULTS`.
        split_folders: Whether to divide the images into train/, validation/ and test/ (80/10/10),
            with one training image that is in validation too.

    Returns:
        The numbers of files, and the paths of the faults.

    Raises:
        ConfigError: An argument is out of range, or the folder holds other files.
    """
    directory = Path(directory)
    _check(seed=seed, size=size, per_class=per_class)
    images = {
        (label, i): _path(label, i, per_class, split_folders)
        for i in range(per_class)
        for label in LABELS
    }
    planted = _planted_paths(split_folders) if faults else {}
    _refuse_other_files(directory, {*images.values(), *planted})
    progress.total(len(images) + len(planted), "images")
    for (label, i), path in images.items():
        rng = _stream(seed, _SET, label, i)
        _write(directory / path, _image(label, rng, size, Path(path).suffix))
    tools = Tools(
        image=lambda label, n: hands.render(
            label, _stream(seed, _FAULTS, label, n), *_shape(size, 0)
        ),
        original=lambda label, n: (directory / images[label, n]).read_bytes(),
    )
    found: dict[str, list[str]] = {}
    for path, fault in planted.items():
        _write(directory / path, fault.build(tools))
        paths = found.setdefault(fault.reason, [])
        if fault.wrong != "original":
            paths.append(path)
        if fault.original and fault.wrong != "copy":
            paths.append(images[fault.original])
    counts = dict.fromkeys(LABELS, per_class)
    return DemoSet(directory, counts, len(images) + len(planted), found)


def _check(seed: int, size: int, per_class: int = SMALLEST_SET) -> None:
    for name, value, least in (
        ("seed", seed, 0),
        ("size", size, SMALLEST_SIZE),
        ("per_class", per_class, SMALLEST_SET),
    ):
        if value < least:
            raise ConfigError(f"{name} of the demo set must be at least {least}. Received: {value}")


def _stream(seed: int, use: int, label: str, number: int) -> np.random.Generator:
    # A generator for each image, so that an image does not depend on how many are drawn before it.
    return np.random.default_rng([seed, use, LABELS.index(label), number])


def _suffix(number: int) -> str:
    """Return the suffix of an image, mostly .jpg, and sometimes another one that is usual."""
    if number % 17 == 5:
        return ".png"
    if number % 11 == 3:
        return ".JPG"
    return ".jpeg" if number % 13 == 7 else ".jpg"


def _path(label: str, number: int, per_class: int, split_folders: bool) -> str:
    name = f"{label}/IMG_{number + 1:04d}{_suffix(number)}"
    if not split_folders:
        return name
    held_out = max(1, round(per_class * _HELD_OUT))
    from_end = (per_class - 1 - number) // held_out
    split = {0: names.TEST, 1: names.VALIDATION}.get(from_end, names.TRAIN)
    return f"{split}/{name}"


def _planted_paths(split_folders: bool) -> dict[str, Fault]:
    """Return each planted file by its path."""
    top = f"{names.TRAIN}/" if split_folders else ""
    found = {f"{top}{fault.folder}/{fault.name}": fault for fault in FAULTS}
    if split_folders:
        found |= {f"{names.VALIDATION}/{fault.folder}/{fault.name}": fault for fault in LEAKS}
    return found


def _shape(size: int, kind: int) -> tuple[int, int]:
    """Return width and height: a square for 0, landscape format for 1, portrait format for 2."""
    longer = round(size * 4 / 3)
    return ((size, size), (longer, size), (size, longer))[kind]


def _image(label: str, rng: np.random.Generator, size: int, suffix: str) -> bytes:
    kind = int(rng.choice(3, p=(0.84, 0.10, 0.06)))
    quality = int(rng.integers(72, 96))
    return encoded(hands.render(label, rng, *_shape(size, kind)), suffix, quality)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    progress.advance(1, "images")


def _refuse_other_files(directory: Path, expected: set[str]) -> None:
    """Refuse a folder with other files, which the pipeline would read as images of hands."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ConfigError(f"The demo set needs a folder, {directory} is a file: name another one.")
    there = (p.relative_to(directory).as_posix() for p in directory.rglob("*") if not p.is_dir())
    others = sorted(set(there) - expected)
    if others:
        raise ConfigError(
            f"{directory} holds {len(others)} files that are not of this demo set, such as "
            f"{others[0]}: name a new or empty folder."
        )
