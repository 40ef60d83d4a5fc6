"""Compares the findings of imgpipe and of CleanVision for the same images, check by check.

This is a part of `benchmarks.cleanvision`. The images are photographs and four changed versions of
each: darkened, lightened, blurred and shrunk. The strength of a change is random, so that the
versions lie on both sides of the thresholds. Of every tenth photograph there are also a strip, an
enlarged version, a grey one and an identical file, for the checks that the four do not concern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.common import Figure

#: Reasons of imgpipe that mean the same as a check of CleanVision.
CHECKS = {
    "dark": ("dark",),
    "light": ("light",),
    "low_information": ("low_information",),
    "blurry": ("blurry",),
    "odd_aspect_ratio": ("odd_aspect_ratio",),
    "odd_size": ("odd_size",),
    "grayscale": ("greyscale",),
    "exact_duplicates": ("duplicate", "duplicate_across_splits", "label_conflict"),
    "near_duplicates": ("near",),
}
#: Severities with which imgpipe does not reject an image because of another one.
SEVERITY = {"near_duplicate_across_splits": "warn"}
_LEAST_SIDE = 20  # pixels of a shrunk image; imgpipe rejects images below 16 pixels
_LIGHTEST = 255.0


def _dark(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = rng.uniform(0.05, 0.6)
    return image.point(lambda value: value * factor)


def _light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = rng.uniform(0.01, 0.2)
    return image.point(lambda value: _LIGHTEST - (_LIGHTEST - value) * factor)


def _blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) * rng.uniform(0.002, 0.04)))


def _shrunk(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    scale = max(rng.uniform(0.05, 0.5), _LEAST_SIDE / min(image.size))
    return image.resize((round(image.width * scale), round(image.height * scale)))


def _strip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    height = max(round(image.width * rng.uniform(0.2, 0.5)), _LEAST_SIDE)
    return image.crop((0, 0, image.width, min(height, image.height)))


def _enlarged(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    scale = rng.uniform(2, 6)
    return image.resize((round(image.width * scale), round(image.height * scale)))


def _grey(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.convert("L").convert("RGB")


VERSIONS = {change.__name__[1:]: change for change in (_dark, _light, _blurred, _shrunk)}
SELDOM = {change.__name__[1:]: change for change in (_strip, _enlarged, _grey)}
_SELDOM = 10  # every tenth photograph has those versions


def make(photographs: Sequence[Path], folder: Path) -> None:
    """Write the photographs and their versions to `folder`, by class."""
    rng = np.random.default_rng(0)
    for number, photograph in enumerate(photographs):
        place = folder / photograph.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (place / photograph.name).write_bytes(photograph.read_bytes())
        with Image.open(photograph) as opened:
            image = opened.convert("RGB")
        seldom = SELDOM if number % _SELDOM == 0 else {}
        if seldom:
            (place / f"{photograph.stem}.copy.jpg").write_bytes(photograph.read_bytes())
        for name, change in {**VERSIONS, **seldom}.items():
            made = place / f"{photograph.stem}.{name}.jpg"
            change(image, rng).save(made, "JPEG", quality=92)


def compare(
    ours: Mapping[str, Sequence[str]], theirs: Mapping[str, Sequence[str]], images: int
) -> list[Figure]:
    """Return a figure for each check, from the paths by reason or check of either side."""
    rows = []
    for check, reasons in CHECKS.items():
        our_paths = {path for reason in reasons for path in ours.get(reason, ())}
        their_paths = set(theirs.get(check, ()))
        both, only_they = our_paths & their_paths, their_paths - our_paths
        same = images - len(our_paths ^ their_paths)
        each = f"both {len(both)}, only CleanVision {len(only_they)}, only ours"
        value = f"{each} {len(our_paths - their_paths)}; the same of {same / images:.2%}"
        rows.append(Figure(f"{check} among {images} images", value))
    return rows
