"""Near-duplicates found and made up, by kind of copy, and what the search costs.

    python -m benchmarks.near_duplicates

The photographs are cats_dogs and those of cats_dogs_reencoded, which are some of them with other
JPEG bytes (two are not in cats_dogs: they are one photograph twice). Other copies are made here.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks import common
from benchmarks.common import Figure
from imgpipe.components.image_file.content import Content, decode
from imgpipe.components.image_file.perceptual_hash import ALL_BYTES, BYTES, distance, parse
from imgpipe.components.image_file.pixels import Pixels
from imgpipe.components.image_filter.checks import MEASUREMENTS
from imgpipe.components.image_filter.near_duplicates import search

SIZES = (1_000, 10_000, 100_000)


_rng = np.random.default_rng(0)


def _cropped(image: Image.Image) -> Image.Image:
    """Without 5 % of width and height, from a place drawn at random."""
    width, height = int(image.width * 0.95), int(image.height * 0.95)
    left = int(_rng.integers(image.width - width + 1))
    top = int(_rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brighter by a fifth": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "mirrored": ImageOps.mirror,
    "cropped by 5 %": _cropped,
}


def main() -> None:
    """Hash, search, count."""
    options = common.parser(__doc__).parse_args()
    originals = common.sample(common.data_set(options.data, "cats_dogs"))
    again = common.sample(common.data_set(options.data, "cats_dogs_reencoded"))
    began = time.process_time()
    hashes = {path: _hashes(path.read_bytes()) for path in [*originals, *again]}
    each = (time.process_time() - began) / len(hashes)
    known = [hashes[path] for path in originals]
    radius = search.fitting_radius(_table(known))
    figures = [
        Figure("radius that fits cats_dogs", f"{radius} of 256 bits"),
        *_reencoded(originals, again, hashes, radius),
        *(_copies(name, change, originals, known, radius) for name, change in COPIES.items()),
        Figure("decoding, measuring and hashing", f"{each * 1e3:.2f} ms of one core"),
        *(_cost(count) for count in SIZES),
    ]
    common.finish(figures, options.json)


def _hashes(data: bytes) -> bytes:
    pixels, _ = decode(data)
    found = b"" if pixels is None else Content.of(Pixels(pixels), MEASUREMENTS).perceptual_hash
    if not found:
        raise SystemExit("a photograph has no hash")
    return found


def _table(hashes: Sequence[bytes]) -> search.Hashes:
    table = np.frombuffer(b"".join(hashes), np.uint8)
    return search.Hashes.of(table.reshape(len(hashes), ALL_BYTES))


def _reencoded(
    originals: Sequence[Path], again: Sequence[Path], hashes: dict[Path, bytes], radius: int
) -> list[Figure]:
    paths = [*originals, *again]
    groups = search.groups(_table([hashes[path] for path in paths]), radius).tolist()
    members: dict[int, list[Path]] = {}
    for path, group in zip(paths, groups, strict=True):
        members.setdefault(group, []).append(path)
    several = [group for group in members.values() if len(group) > 1]
    found = {path for group in several for path in group} & set(again)
    true = {"dog.10401.jpg", "dog.10797.jpg"}
    wrong = [g for g in several if len({p.name for p in g}) > 1 and {p.name for p in g} != true]
    return [
        Figure("re-encoded copies found", f"{len(found)} of {len(again)}", "62 of 62"),
        Figure(
            "false groups per 1,000 photographs", f"{1000 * len(wrong) / len(paths):.2f}", "≤ 1"
        ),
    ]


def _copies(
    name: str,
    change: Callable[[Image.Image], Image.Image],
    originals: Sequence[Path],
    known: Sequence[bytes],
    radius: int,
) -> Figure:
    """Recall of the whole search when one copy of each photograph is added."""
    made = []
    for path in originals:
        out = io.BytesIO()
        with Image.open(path) as image:
            change(image.convert("RGB")).save(out, "JPEG", quality=88)
        made.append(_hashes(out.getvalue()))
    n = len(originals)
    groups = search.groups(_table([*known, *made]), radius)
    hits = int((groups[:n] == groups[n:]).sum())
    bits = [_bits(a, b) for a, b in zip(known, made, strict=True)]
    return Figure(
        f"copies {name} found",
        f"{hits} of {n} ({hits / n:.4f}); median {np.median(bits):.0f} bits, 99 % within "
        f"{np.quantile(bits, 0.99):.0f}",
        "≥ 0.99" if np.quantile(bits, 0.99) <= 20 else "",
    )


def _bits(original: bytes, copy: bytes) -> int:
    """Between the copy and the nearest of the original's hashes."""
    upright = parse(copy).upright
    places = range(0, ALL_BYTES, BYTES)
    return min(distance(original[place : place + BYTES], upright) for place in places)


def _cost(count: int) -> Figure:
    """Of the search alone, on random hashes."""
    hashes = np.random.default_rng(0).integers(0, 256, (count, ALL_BYTES), np.uint8)
    began = time.process_time()
    search.groups(search.Hashes.of(hashes), search.RADIUS)
    seconds = time.process_time() - began
    return Figure(
        f"search among {count:,}", f"{seconds:.1f} s, {seconds / count * 1e6:.0f} µs an image"
    )


if __name__ == "__main__":
    main()
