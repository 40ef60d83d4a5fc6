"""How many doubtful labels are wrong, and how many wrong labels are doubtful or ranked first.

    python -m benchmarks.label_errors [--sets SET …] [--images N]

A share of the labels of each set is changed at random, two times, and the answers of the folds of a
head on covariances are compared with them. The sets have wrong labels of their own, which count as
right here.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks import common, transfer
from benchmarks.common import Figure
from benchmarks.transfer import GroupedImages
from imgpipe.components.run_record.doubtful_labels import DOUBTFUL, SURELY_WRONG
from imgpipe.models.features.bank import BankRows
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.calibration import fit_temperature, softmax, wrong_label_probabilities
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.settings.model import COVARIANCE, ModelSettings

SETS: Final = {**transfer.SETS, "flowers_large": "*/*"}
SHARES: Final = (0.0, 0.01, 0.03, 0.06)  # of the labels, which are changed
DRAWS: Final = 2
FIRST: Final = 0.05  # share of the images that are the first of the ranking
_SETTINGS: Final = ModelSettings(features=COVARIANCE)


def main() -> None:
    """Print a line for each set and share."""
    parser = common.parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET")
    parser.add_argument("--images", type=int, default=600, help="images of each set, at most")
    options = parser.parse_args()
    figures = []
    for name in options.sets:
        folder = common.data_set(options.data, name)
        grouped = GroupedImages.of(folder, SETS[name], options.images)
        rows, _ = grouped.rows(_SETTINGS)
        for share in SHARES:
            result = changed(rows, grouped.images.classes, share)
            figures.append(Figure(f"{name}, {share:.0%} changed", result))
    common.finish(figures)


def changed(rows: BankRows, classes: int, share: float) -> str:
    """Change a share of the labels, ask the folds, and return what to print."""
    accuracies = []
    doubtful = 0
    found = 0
    proposed = 0
    proposed_right = 0
    first = 0
    count = round(share * len(rows))
    for draw in range(DRAWS if count else 1):
        rng = np.random.default_rng(draw)
        labels = rows.labels.copy()
        wrong = rng.choice(len(labels), count, replace=False)
        # Another class each, with equal probability: 0 and `classes` are not among the steps.
        labels[wrong] = (labels[wrong] + rng.integers(1, classes, count)) % classes
        solver = HeadSolver(replace(rows, labels=labels), classes, _SETTINGS)
        judgement = solver.judge()
        assert judgement is not None  # there are enough images for folds
        folds = solver.out_of_fold(judgement.regression)
        answers = Answers.joined(folds)
        shares = softmax(answers.logits / fit_temperature(answers.logits, answers.labels))
        of_label = shares[np.arange(len(answers.labels)), answers.labels]
        of_other = np.where(answers.right, 0, shares.max(axis=1))
        hashes = np.asarray(answers.hashes)
        groups = rows.groups[np.searchsorted(rows.hashes, hashes)]
        in_doubt = wrong_label_probabilities(of_label, of_other, classes, groups) * ~answers.right
        is_wrong = np.isin(hashes, rows.hashes[wrong])
        accuracies.append(float(answers.right.mean()))
        doubtful += int((in_doubt > DOUBTFUL).sum())
        found += int(is_wrong[in_doubt > DOUBTFUL].sum())
        is_proposed = in_doubt > SURELY_WRONG
        proposed += int(is_proposed.sum())
        proposed_right += int(is_wrong[is_proposed].sum())
        first += int(is_wrong[np.argsort(-in_doubt)[: round(FIRST * len(rows))]].sum())
    planted = count * len(accuracies)
    return (
        f"accuracy {np.mean(accuracies):.3f}: {found} of {doubtful} doubtful labels are changed "
        f"ones, of {planted}; {first} of these are in the first {FIRST:.0%} of the ranking; "
        f"{proposed_right} of {proposed} labels above {SURELY_WRONG:g} are changed ones"
    )


if __name__ == "__main__":
    main()
