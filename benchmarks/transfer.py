"""Accuracy of heads on covariances of several backbones, beside the first, on reference sets.

    python -m benchmarks.transfer [NAME …] [--sets SET …] [--images N]

Each backbone sees images of its own size. Its features are extracted once for each image, and a
head is solved for each of three splits, as a run does. Images of one family, and near-duplicates,
are on one side of every split, and each image is tested once. Nothing is chosen by these
accuracies. Where a set names splits, its images are divided anew.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image, ImageOps

from benchmarks import common
from benchmarks.common import Figure, ImageSet
from imgpipe.components.common.image_file.pixels import Pixels, perceptual_hashes
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.feature_bank.storage import principal_axes
from imgpipe.components.image_filter.comparison import belongings
from imgpipe.components.image_filter.judge.checks.quality import RADIUS
from imgpipe.models import preprocess
from imgpipe.models.arrays import Flags, Integers, Names
from imgpipe.models.features import folds
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.head.certainty import standard_error
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.settings.model import COVARIANCE, ModelSettings

NAMES: Final = ("efficientnet_lite0",)
#: The sets of the reference data, each with the depth of the folders of its classes.
SETS: Final = {
    "cats_dogs": "*/*",
    "horses_or_humans": "*/*/*",
    "rps_photos": "*/*/*",
    "rps_cgi_28": "*/*/*",
    "sign_digits": "*/*",
    "flowers_128": "*/*",
    "flowers_large": "*/*",
}
SPLITS: Final = 3  # each tests another third of the images
_OF_AXES: Final = 128  # images of which axes are made
_AT_ONCE: Final = 256  # images in one call of the extractor
_LARGEST_SIDE: Final = 500  # pixels, of images that are compared with each other


class TestedBackbone(NamedTuple):
    """Which images heads on the features of a backbone classify correctly.

    Attributes:
        right: Whether each image was answered correctly, bool [n].
        groups: Group of each image, [n].
        splits: Number of the split that tested each image, [n].
        extraction: Processor seconds for the features of all images.
        solving: Seconds of solving the heads.
    """

    right: Flags
    groups: Names
    splits: Integers
    extraction: float
    solving: float

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the splits."""
        return float(np.mean([self.right[self.splits == split].mean() for split in range(SPLITS)]))


@dataclass(frozen=True)
class GroupedImages:
    """Images of a set, with groups of images that show the same, bytes [n]."""

    images: ImageSet
    groups: Names

    @classmethod
    def of(cls, folder: Path, pattern: str, count: int, least_side: int = 0) -> GroupedImages:
        """Return at most `count` images of a set, chosen by the hash of their content.

        The longer side of each image has at least `least_side` pixels.
        """
        paths = sorted(path for path in folder.glob(pattern) if path.is_file())
        if least_side:
            paths = [path for path in paths if max(Image.open(path).size) >= least_side]
        everything = ImageSet.of(paths)
        named = [
            ImageRow(
                str(path.relative_to(folder)),
                path.parent.name,
                image_hash=digest,
                source_label=path.parent.name,
            )
            for path, digest in zip(paths, everything.hashes, strict=True)
        ]
        _, first = np.unique(everything.hashes, return_index=True)  # in the order of the hashes
        images = everything.rows(first[:count].tolist())
        with ProcessPoolExecutor() as pool:
            hashed = pool.map(_perceptual, [paths[row] for row in first[:count]], chunksize=32)
            hash_of = dict(zip(images.hashes, hashed, strict=True))
        known = [row for row in named if row.image_hash in hash_of]
        belongings(known, [hash_of[row.image_hash] for row in known], RADIUS)
        family_of = {row.image_hash: row.family for row in known}
        return cls(images, np.array([family_of[digest] for digest in images.hashes], np.bytes_))

    def test(self, name: str) -> TestedBackbone:
        """Solve and test heads on the covariances of a backbone with ImageNet weights."""
        settings = ModelSettings(backbone=name, features=COVARIANCE)
        rows, extraction = self.rows(settings)
        return self._tested(rows, settings, extraction)

    def rows(self, settings: ModelSettings) -> tuple[BankRows, float]:
        """Return the features of the images, and the processor seconds that they took.

        Covariances have axes of these images, as those of a run have axes of its images.
        """
        with tempfile.TemporaryDirectory(prefix="imgpipe-bench-") as folder:
            file = Path(folder) / "axes.npz"
            pixels = preprocess.batch_decode(self.images.images[:_OF_AXES], settings.size)
            np.savez(file, *principal_axes(pixels.numpy(), FeatureExtractor(settings).feature_maps))
            return self._rows(FeatureExtractor(replace(settings, axes=str(file))))

    def _rows(self, extractor: FeatureExtractor) -> tuple[BankRows, float]:
        extractor.extract(self.images.images[:1], self.images.hashes[:1], [[0]])  # compiles it
        started = time.process_time()
        features = []
        for first in range(0, len(self.images), _AT_ONCE):
            part = self.images.rows(range(first, min(first + _AT_ONCE, len(self.images))))
            features += extractor.extract(part.images, part.hashes, [[0]] * len(part))
        extraction = time.process_time() - started
        hashes = np.array([digest.encode() for digest in self.images.hashes])
        rows = BankRows(
            np.concatenate(features),
            self.images.labels,
            np.zeros(len(hashes), np.int64),
            hashes,
            self.groups,
            sizes=extractor.sizes,
        )
        return rows, extraction

    def _tested(self, rows: BankRows, settings: ModelSettings, extraction: float) -> TestedBackbone:
        split_of = folds.assign(rows.labels, rows.groups, SPLITS)
        right = np.zeros(len(rows), np.bool_)
        started = time.perf_counter()
        for split in range(SPLITS):
            held = split_of == split
            train = rows.select(~held)
            head = HeadSolver(train, self.images.classes, settings).solve(learning_curve=False)
            answers = head.linear.log_probabilities(rows.features[held]).argmax(axis=1)
            right[held] = answers == rows.labels[held]
        solving = time.perf_counter() - started
        return TestedBackbone(right, rows.groups, split_of, extraction, solving)


def _perceptual(path: Path) -> bytes:
    """Return the perceptual hashes of an image, by which near-duplicates are found."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    return perceptual_hashes(Pixels(np.asarray(image)))


def compared(grouped: GroupedImages, names: Sequence[str]) -> list[str]:
    """Return what to print of each backbone; all but the first are compared with the first."""
    lines: list[str] = []
    usual: TestedBackbone | None = None
    for name in names:
        tested = grouped.test(name)
        line = f"{name}: {tested.accuracy:.4f}"
        if usual is None:
            usual = tested
        else:
            gains = tested.right.astype(np.float64) - usual.right
            error = standard_error(gains, tested.groups)
            line += f" ({gains.mean():+.4f}, standard error {error:.4f})"
        milliseconds = 1000 * tested.extraction / len(grouped.images)
        line += f"; {milliseconds:.0f} ms of a processor an image, heads {tested.solving:.1f} s"
        lines.append(line)
    return lines


def main() -> None:
    """Measure the sets and print a line for each backbone."""
    parser = common.parser(__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="backbones")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=tuple(SETS), metavar="SET")
    parser.add_argument("--images", type=int, default=600, help="images of a set at most")
    options = parser.parse_args()
    print(f"machine: {common.machine()}")
    figures = []
    for name in options.sets:
        folder = common.data_set(options.data, name)
        grouped = GroupedImages.of(folder, SETS[name], options.images)
        count = f"{len(grouped.images)} images in {len(np.unique(grouped.groups))} groups"
        for line in compared(grouped, options.names):
            figures.append(Figure(name, f"{count}; {line}"))
            print(f"{name}: {count}; {line}", flush=True)
    common.finish(figures)


if __name__ == "__main__":
    main()
