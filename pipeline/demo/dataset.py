"""Draws the demo set into a folder: one sub-folder a class, planted faults among the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.demo import encode, hands
from imgpipe.pipeline.demo.faults import FAULTS, LEAKS, Fault, Tools
from imgpipe.pipeline.demo.poses import LABELS

SMALLEST_SET = 4  # images a class: faults copy some, each given split needs one
SMALLEST_SIZE = 48  # pixels: below it a person cannot tell the gestures apart
_HELD_OUT = 0.1  # share of validation and of test where the folders name the splits
# Independent random streams: images of the set, images of faults, images on their own.
_SET, _FAULTS, _SINGLE = range(3)


@dataclass(frozen=True)
class DemoSet:
    """What was drawn.

    `counts` holds the good images of each class, `files` all files written, `planted` the paths
    (relative, with forward slashes) of each fault. Of byte-identical files the copies are named,
    of a label conflict both sides, since neither can be told right, of a leak the one in train.
    """

    directory: Path
    counts: dict[str, int]
    files: int
    planted: dict[str, list[str]]


def draw_hand(label: str, seed: int = 0, size: int = 160) -> Image.Image:
    """An image [size, size] RGB of one hand that is in no set drawn by `draw`.

    Raises:
        ConfigError: unknown label, negative seed or a size below SMALLEST_SIZE.
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
    """Draw `per_class` images of each gesture into `directory`, and plant faults among them.

    The same arguments give the same bytes on the same machine and library versions. Drawing again
    into the same folder is fine; a folder with other files in it is refused before anything is
    written.

    Args:
        directory: is made where missing.
        per_class: good images of each class.
        size: shorter side, pixels; every sixth image is 4:3 or 3:4.
        seed: of everything drawn by chance.
        faults: plant the files of `faults.FAULTS`.
        split_folders: train/, validation/ and test/ above the class folders (80/10/10), with a
            training image leaked into validation.

    Raises:
        ConfigError: an argument out of range, or a folder that holds other files.
    """
    directory = Path(directory)
    _check(seed=seed, size=size, per_class=per_class)
    images = {
        (label, i): _path(label, i, per_class, split_folders)
        for i in range(per_class)
        for label in LABELS
    }
    planted = dict(_places(split_folders)) if faults else {}
    _refuse_strangers(directory, {*images.values(), *planted})
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
        if fault.wrong != "twin":
            paths.append(path)
        if fault.twin and fault.wrong != "copy":
            paths.append(images[fault.twin])
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
    return np.random.default_rng([seed, use, LABELS.index(label), number])


def _suffix(number: int) -> str:
    """Mostly .jpg; cameras and people also write these."""
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


def _places(split_folders: bool) -> Iterator[tuple[str, Fault]]:
    """Every planted file's path with its fault."""
    for fault in FAULTS:
        top = f"{names.TRAIN}/" if split_folders else ""
        yield f"{top}{fault.folder}/{fault.name}", fault
    if split_folders:
        for fault in LEAKS:
            yield f"{names.VALIDATION}/{fault.folder}/{fault.name}", fault


def _shape(size: int, kind: int) -> tuple[int, int]:
    """(width, height): square, lying or standing."""
    longer = round(size * 4 / 3)
    return ((size, size), (longer, size), (size, longer))[kind]


def _image(label: str, rng: np.random.Generator, size: int, suffix: str) -> bytes:
    kind = int(rng.choice(3, p=(0.84, 0.10, 0.06)))
    quality = int(rng.integers(72, 96))
    return encode.encoded(hands.render(label, rng, *_shape(size, kind)), suffix, quality)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    progress.advance(1, "images")


def _refuse_strangers(directory: Path, expected: set[str]) -> None:
    """The pipeline would take whatever else lies there for an image of a hand."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ConfigError(f"The demo set needs a folder, {directory} is a file: name another one.")
    there = (p.relative_to(directory).as_posix() for p in directory.rglob("*") if not p.is_dir())
    strangers = sorted(set(there) - expected)
    if strangers:
        raise ConfigError(
            f"{directory} holds {len(strangers)} files that are not of this demo set, such as "
            f"{strangers[0]}: name a new or empty folder."
        )
