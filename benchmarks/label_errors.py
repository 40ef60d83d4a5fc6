"""Share of flipped labels that are among the first in the ranking of doubtful labels.

    python -m benchmarks.label_errors

The features are those of the feature bank for the unchanged images. A share of the labels is
flipped at random, several times, and the ranking does not know which.
"""

from __future__ import annotations

import statistics

import numpy as np

from benchmarks import common
from benchmarks.common import Figure, ImageSet
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.head.label_margins import label_margins
from imgpipe.models.names.arrays import Floats, Integers
from imgpipe.models.settings.feature_kinds import AVERAGE
from imgpipe.models.settings.model import ModelSettings

FLIPPED, FIRST = 0.03, 0.05  # shares of the images: flipped labels, and first ranks
SEEDS = range(10)
GOAL = 0.95
_AT_ONCE = 256  # images in one call of the extractor


def main() -> None:
    """Extract the features, flip and rank several times, and print the share."""
    parser = common.parser(__doc__)
    parser.add_argument("--set", default="cats_dogs", help="folder of the photographs")
    parser.add_argument("--images", type=int, help="images to rank (default: all)")
    options = parser.parse_args()
    images = ImageSet.of(common.sample(common.data_set(options.data, options.set), options.images))
    truth = images.labels
    extractor = FeatureExtractor(ModelSettings(features=AVERAGE))
    rows = []
    for start in range(0, len(images), _AT_ONCE):
        part = images.rows(range(start, min(start + _AT_ONCE, len(images))))
        rows += [
            views[0] for views in extractor.extract(part.images, part.hashes, [[0]] * len(part))
        ]
    features = np.array(rows)
    folds = np.array([int(digest[:8], 16) % FOLDS for digest in images.hashes])
    shares = [_share(features, truth, folds, images.classes, seed) for seed in SEEDS]
    flipped = round(FLIPPED * len(truth))
    common.finish(
        [
            Figure(
                f"{options.set}: of {flipped} flipped labels of {len(truth)}, in the first "
                f"{FIRST:.0%} of the ranking",
                f"{statistics.mean(shares):.4f} (least {min(shares):.4f} of {len(shares)} draws)",
                f"≥ {GOAL}",
            )
        ],
    )


def _share(
    features: Floats,
    truth: Integers,
    folds: Integers,
    classes: int,
    seed: int,
) -> float:
    """Return the share of the flipped labels that are in the first ranks, for one draw."""
    rng = np.random.default_rng(seed)
    labels = truth.copy()
    wrong = rng.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
    # Another class each, with equal probability: 0 and `classes` are not among the steps.
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    margins, _ = label_margins(features, labels, folds, classes)
    first = np.argsort(-margins, kind="stable")
    return float(np.isin(wrong, first[: round(FIRST * len(labels))]).mean())


if __name__ == "__main__":
    main()
