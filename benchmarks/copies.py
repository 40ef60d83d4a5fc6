"""Share of altered copies that the judge finds, and the false pairs among different images.

    python -m benchmarks.copies

Copies of 40 images of a set are altered as augmentation programs do by default, saved as JPEG of
quality 70 and looked for among all images of the set. The pairs that are found in a set alone are
false if no two of its images show the same scene; they are counted in 100,000 pairs of images.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks import common
from benchmarks.common import Figure
from imgpipe.components.common.image_file.pixels import Pixels, perceptual_hashes
from imgpipe.components.image_filter.copies.search import find_near_duplicates, hash_table
from imgpipe.components.image_filter.judge.checks.quality import RADIUS

SETS = ("cats_dogs", "flowers_128", "sign_digits")
#: Sets in which no two images show the same scene.
ALL_DIFFERENT = ("cats_dogs", "sign_digits")
COPIED = 40
_LARGEST_SIDE = 500  # pixels


def _shifted(image: Image.Image, right: float, down: float) -> Image.Image:
    """Shift an image by shares of its sides; its edge pixels fill the rest, as in Keras."""
    rows = np.arange(image.height) - round(down * image.height)
    columns = np.arange(image.width) - round(right * image.width)
    values = np.asarray(image)[rows.clip(0, image.height - 1)]
    return Image.fromarray(values[:, columns.clip(0, image.width - 1)])


def _noisy(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(float)
    values += np.random.default_rng(0).normal(0, 20, values.shape)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _framed(image: Image.Image, share: float) -> Image.Image:
    return ImageOps.expand(image, round(share * min(image.size)), "white")


def _cut(image: Image.Image) -> Image.Image:
    """Cut off the empty corners of an image that was tilted by 10 degrees, as Augmentor does."""
    left, upper = (round(0.07 * side) for side in image.size)
    box = (left, upper, image.width - left, image.height - upper)
    return image.resize(image.size, Image.Resampling.BICUBIC, box)


def _turned(turn: Image.Transpose) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.transpose(turn)


def _tilted(degrees: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.rotate(degrees, Image.Resampling.BILINEAR)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again": lambda image: image,
    "mirrored": ImageOps.mirror,
    "turned by 90 degrees": _turned(Image.Transpose.ROTATE_90),
    "turned by 270 degrees": _turned(Image.Transpose.ROTATE_270),
    "upside down": _turned(Image.Transpose.ROTATE_180),
    "mirrored upside down": ImageOps.flip,
    "transposed": _turned(Image.Transpose.TRANSPOSE),
    "tilted by 5 degrees": _tilted(5),
    "tilted by 10 degrees": _tilted(10),
    "tilted by -13 degrees": _tilted(-13),
    "tilted by 10 degrees, canvas enlarged": lambda image: image.rotate(10, expand=True),
    "tilted by 10 degrees, corners cut off": lambda image: _cut(image.rotate(10)),
    "shifted by a tenth to the right": lambda image: _shifted(image, 0.1, 0),
    "shifted by a tenth down and to the left": lambda image: _shifted(image, -0.1, 0.1),
    "shifted by 0.0625 both ways": lambda image: _shifted(image, 0.0625, -0.0625),
    "shifted by 0.075": lambda image: _shifted(image, 0.075, 0),
    "border of a twentieth": lambda image: _framed(image, 0.05),
    "border of a tenth": lambda image: _framed(image, 0.1),
    "zoomed by 1.2": lambda image: ImageOps.fit(image, image.size, bleed=1 / 12),
    "mirrored and tilted by 10 degrees": lambda image: ImageOps.mirror(image).rotate(10),
    "brightness 1.3": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "brightness 0.6": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "noise of 20 grey levels": _noisy,
}


def _hashed(job: tuple[Path, str]) -> bytes:
    """Return the perceptual hashes of an image, or of a changed copy that was saved as JPEG."""
    path, change = job
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    if change:
        out = io.BytesIO()
        CHANGES[change](image).save(out, "JPEG", quality=70)
        image = Image.open(out)
    return perceptual_hashes(Pixels(np.asarray(image)))


def measure(folder: Path) -> tuple[dict[str, int], int, int]:
    """Return the copies that are found by change, the false pairs, and the number of images."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    chosen = np.random.default_rng(0).choice(len(files), COPIED, replace=False).tolist()
    with ProcessPoolExecutor() as pool:
        originals = list(pool.map(_hashed, [(file, "") for file in files], chunksize=64))
        original_hashes = {f"original {n}": hashes for n, hashes in enumerate(originals)}
        alone = find_near_duplicates(*hash_table(original_hashes, originals), RADIUS).groups
        counts = {}
        for change in CHANGES:
            copies = pool.map(_hashed, [(files[n], change) for n in chosen], chunksize=8)
            named = {f"copy {n}": hashes for n, hashes in zip(chosen, copies, strict=True)}
            all_hashes = {**original_hashes, **named}
            groups = find_near_duplicates(
                *hash_table(all_hashes, all_hashes.values()), RADIUS
            ).groups
            counts[change] = sum(
                groups.get(f"copy {n}", -1) == groups.get(f"original {n}", -2) for n in chosen
            )
    return counts, len(alone) - len(set(alone.values())), len(files)


def main() -> None:
    """Measure the sets and print the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, metavar="SET")
    options = parser.parse_args()
    print(f"machine: {common.machine()}")
    measured = {name: measure(common.data_set(options.data, name)) for name in options.sets}
    figures = []
    for change in CHANGES:
        of_sets = ", ".join(f"{name} {counts[change]}" for name, (counts, _, _) in measured.items())
        figures.append(Figure(change, f"of {COPIED} copies: {of_sets}"))
    for name in ALL_DIFFERENT:
        if name in measured:
            _, false, images = measured[name]
            pairs = images * (images - 1) / 2
            value = f"{false} of {pairs:,.0f} pairs ({false / pairs * 100_000:.2f} in 100,000)"
            figures.append(Figure(f"{name}: false pairs", value))
    common.finish(figures)


if __name__ == "__main__":
    main()
