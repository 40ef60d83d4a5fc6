"""Recall and precision of the checks for faults that are planted among photographs.

    python -m benchmarks.judge

Photographs of cats and dogs lie in folders of splits, a sixth in validation and test. Copies of
other photographs are planted among them: empty, truncated at random, text with the name of an
image, damaged although they decode, identical, with both labels, saved again by others
(`cats_dogs_reencoded`), shrunk, cropped, mirrored, and copies of training images in test. Recall is
the share of the planted files that are found with the right reason. Precision is the share of
planted files among all files with that reason. The recall of the search is also measured with a
crop of every photograph.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from benchmarks import common
from benchmarks.common import Figure
from imgpipe.components.common.image_file.content import decode
from imgpipe.components.common.image_file.pixels import ALL_BYTES, Pixels, perceptual_hashes
from imgpipe.components.image_filter.copies.search import find_near_duplicates
from imgpipe.components.image_filter.findings import with_severity
from imgpipe.components.image_filter.judge.checks.quality import RADIUS
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.data_check import CheckedSource, judge
from imgpipe.pipeline.definition.source import listed
from imgpipe.serving.look import Look

_HELD_OUT = 6  # every sixth photograph is in test or validation
_EACH = 60  # planted files of each kind
_CROP = 0.05  # share of width and height that is cut off
TEXT = b"<html><body>404 Not Found</body></html>\n" * 30


@dataclass
class Planted:
    """The set and the planted files."""

    folder: Path
    rng: np.random.Generator
    free: list[Path]  # photographs in train that have no copy
    kinds: dict[str, set[str]] = field(default_factory=dict)  # paths at fault by kind
    pairs: dict[str, str] = field(default_factory=dict)  # path of the original by path of its copy

    def add(self, kind: str, path: str, data: bytes, original: str = "") -> None:
        """Write a file that is at fault."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self.kinds.setdefault(kind, set()).add(path)
        if original:
            self.pairs[path] = original


@dataclass(frozen=True)
class Kind:
    """A kind of fault, and the reasons with which it counts as found."""

    name: str
    reasons: tuple[str, ...]
    make: Callable[[Planted, bytes], bytes] | None = None  # from the bytes of a photograph
    split: str = "train"  # split of the copy


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _saved(image: Image.Image, quality: int = 85) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _cut(planted: Planted, data: bytes) -> bytes:
    return data[: int(len(data) * planted.rng.uniform(0.02, 0.98))]


def _shrunk(planted: Planted, data: bytes) -> bytes:
    image = _opened(data)
    scale = planted.rng.uniform(0.3, 0.8)
    size = (max(int(image.width * scale), 32), max(int(image.height * scale), 32))
    return _saved(image.resize(size, Image.Resampling.BICUBIC))


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = (int(side * (1 - _CROP)) for side in image.size)
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _cropped(planted: Planted, data: bytes) -> bytes:
    return _saved(_crop(_opened(data), planted.rng))


def _mirrored(planted: Planted, data: bytes) -> bytes:
    return _saved(_opened(data).transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def _zeros(planted: Planted, data: bytes) -> bytes:
    start = len(data) // 2
    count = min(4096, len(data) // 4)
    return data[:start] + bytes(count) + data[start + count :]


def _joined(planted: Planted, data: bytes) -> bytes:
    second = planted.free[int(planted.rng.integers(len(planted.free)))].read_bytes()
    return data[: len(data) // 2] + second[len(second) // 2 :]


def _flipped(planted: Planted, data: bytes) -> bytes:
    changed = bytearray(data)
    for at in planted.rng.integers(data.find(b"\xff\xda") + 14, len(data) - 2, 3):
        changed[at] ^= 1 << int(planted.rng.integers(8))
    return bytes(changed)


_AGAIN = "saved again by others"
_DAMAGED = ("damaged", "truncated", "undecodable")
_NEAR = ("near_duplicate",)
KINDS = (
    Kind("zero-byte", ("zero_byte",), lambda planted, data: b""),
    Kind("truncated", ("truncated",), _cut),
    Kind("text named .jpg", ("not_an_image",), lambda planted, data: TEXT),
    Kind("converted newlines", _DAMAGED, lambda planted, data: data.replace(b"\n", b"\r\n")),
    Kind("4 KB of zeros in the middle", _DAMAGED, _zeros),
    Kind("the tail of another", _DAMAGED, _joined),
    Kind("three wrong bits", _DAMAGED, _flipped),
    Kind("same bytes", ("duplicate",), lambda planted, data: data),
    Kind("same bytes, other label", ("label_conflict",)),
    Kind(_AGAIN, _NEAR),
    Kind("shrunk", _NEAR, _shrunk),
    Kind("cropped by 5 %", _NEAR, _cropped),
    Kind("mirrored", _NEAR, _mirrored),
    Kind("leak, same bytes", ("duplicate_across_splits",), lambda planted, data: data, "test"),
    Kind(
        "leak, saved again",
        ("near_duplicate_across_splits",),
        lambda planted, data: _saved(_opened(data), 70),
        "test",
    ),
)


def plant(data: Path, folder: Path, each: int, seed: int = 0) -> Planted:
    """Copy the photographs to folders of splits, and plant `each` faults of every kind."""
    cats = common.data_set(data, "cats_dogs")
    again = common.data_set(data, "cats_dogs_reencoded")
    rng = np.random.default_rng(seed)
    photographs = sorted(cats.glob("*/*.jpg"))
    kept_for_pairs = {file.relative_to(again).as_posix() for file in again.glob("*/*.jpg")}
    free = []
    for number, photograph in enumerate(photographs):
        name = photograph.relative_to(cats).as_posix()
        paired = name in kept_for_pairs
        split = "train"
        if number % _HELD_OUT == 0 and not paired:
            split = ("test", "validation")[number // _HELD_OUT % 2]
        target = folder / split / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(photograph.read_bytes())
        if split == "train" and not paired:
            free.append(target)
    rng.shuffle(free)
    planted = Planted(folder, rng, free)
    for file in sorted(again.glob("*/*.jpg")):
        name = file.relative_to(again).as_posix()
        label, _, base = name.partition("/")
        original = f"train/{name}" if (folder / "train" / name).exists() else ""
        path = f"train/{label}/again.{base}"
        planted.add(_AGAIN, path, file.read_bytes(), original)
    for kind in KINDS:
        for number in range(each) if kind.name not in planted.kinds else ():
            _plant_one(planted, kind, number)
    return planted


def _plant_one(planted: Planted, kind: Kind, number: int) -> None:
    original = planted.free.pop()
    original_path = original.relative_to(planted.folder).as_posix()
    label = original.parent.name
    data = original.read_bytes()
    slug = f"{KINDS.index(kind):02d}.{number:03d}.jpg"
    if kind.make is None:  # both files of a conflict are at fault
        wrong_label = {"cat": "dog", "dog": "cat"}[label]
        planted.add(kind.name, f"train/{wrong_label}/{slug}", data, original_path)
        planted.kinds[kind.name].add(original_path)
        return
    made = kind.make(planted, data)
    planted.add(kind.name, f"{kind.split}/{label}/{slug}", made, original_path)
    if kind.split != "train":  # the training image is rejected, not the held-out one
        planted.kinds[kind.name].remove(f"{kind.split}/{label}/{slug}")
        planted.kinds[kind.name].add(original_path)


def reported(checked: CheckedSource) -> dict[str, set[str]]:
    """Return the paths of rejected files and of files with a warning, by reason."""
    paths: dict[str, set[str]] = {}
    for row in checked.judgement.findings:
        paths.setdefault(row["reason"], set()).add(row["path"])
    return paths


def near_groups(checked: CheckedSource) -> list[list[str]]:
    """Return the paths of each group of near-duplicates."""
    images = checked.judgement.images
    near = images[images["near_group"] > 0]
    return near.groupby("near_group")["path"].agg(list).tolist()


def figures(planted: Planted, checked: CheckedSource) -> list[Figure]:
    """Return a figure for each kind."""
    paths = reported(checked)
    # Of two near-duplicates, the finding names the one whose path comes later.
    either = {**planted.pairs, **{original: copy for copy, original in planted.pairs.items()}}
    copies = [row for row in checked.judgement.findings if row["reason"] == "duplicate"]
    both = {path for row in copies for path in (row["path"], row["kept_copy"])}
    listed = {path for group in near_groups(checked) for path in group}
    rows = []
    for kind in KINDS:
        truth = planted.kinds[kind.name]
        hits = set().union(*(paths.get(reason, set()) for reason in kind.reasons))
        right = {path for path in truth if path in hits or either.get(path) in hits}
        if kind.name == _AGAIN:  # two of them are identical files without an original in the set
            right = truth & (listed | both)
        same = [similar for similar in KINDS if set(similar.reasons) & set(kind.reasons)]
        meant = set().union(*(planted.kinds[similar.name] for similar in same))
        meant |= {either[path] for path in meant if path in either}
        if kind.reasons == ("duplicate",):
            meant |= both & planted.kinds[_AGAIN]
        precision = len(hits & meant) / len(hits) if hits else 1.0
        value = f"recall {len(right)} of {len(truth)}, precision {precision:.3f}"
        if wrong := len(hits - meant):
            value += f" ({wrong} not planted)"
        goal = "62 of 62" if kind.name == _AGAIN else ""
        rows.append(Figure(f"{kind.name} → {', '.join(kind.reasons)}", value, goal))
    return rows


def crops_found(photographs: Sequence[Path]) -> Figure:
    """Measure the recall of the search when a crop of every photograph is added."""
    rng = np.random.default_rng(0)
    originals = [path.read_bytes() for path in photographs]
    crops = [_saved(_crop(_opened(data), rng), 88) for data in originals]
    hashes = b"".join(map(_hash, [*originals, *crops]))
    pictures = np.frombuffer(hashes, np.uint8).reshape(-1, ALL_BYTES)
    groups = find_near_duplicates(pictures, RADIUS).groups
    count = len(originals)
    grouped = int(((groups[:count] == groups[count:]) & (groups[:count] > 0)).sum())
    return Figure("crops by 5 % of all photographs found", f"{grouped} of {count}", "≥ 0.99")


def _hash(data: bytes) -> bytes:
    pixels = decode(Look(data))
    if pixels is None:
        raise SystemExit("a photograph cannot be decoded")
    return perceptual_hashes(Pixels(pixels))


def main() -> None:
    """Plant the faults, inspect the images and print the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--each", type=int, default=_EACH, help="planted files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cropped", type=int, help="photographs to crop (default: all)")
    options = parser.parse_args()
    print(f"machine: {common.machine()}")
    cats = common.data_set(options.data, "cats_dogs")
    with common.workplace(options.work) as work:
        planted = plant(options.data, work / "photos", options.each, options.seed)
        config = configs.build({"data": {"source": str(work / "photos")}})
        checked = judge(config, listed(config, ""), "")
        of_cats = configs.build({"data": {"source": str(cats)}})
        alone = judge(of_cats, listed(of_cats, ""), "")
    rows = figures(planted, checked)
    images = sum(1 for row in alone.listed.items if row.path.endswith(".jpg"))
    pairs = sum(len(group) - 1 for group in near_groups(alone))
    lost = with_severity(alone.judgement.findings, "reject")
    rejected = sum(row["path"].endswith(".jpg") for row in lost)
    rate = len(checked.listed.items) / checked.seconds
    rows += [
        Figure("false pairs among photographs alone", f"{pairs} of {images}", "≤ 1 per 1,000"),
        Figure("photographs alone that are rejected", f"{rejected}", "0"),
        Figure("images checked per second, all cores", f"{rate:.0f}"),
        crops_found(common.sample(cats, options.cropped)),
    ]
    common.finish(rows)


if __name__ == "__main__":
    main()
