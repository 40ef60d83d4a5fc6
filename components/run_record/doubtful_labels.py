"""Labels that look wrong: a ranking of the images of a feature bank.

Every image is scored by a head that was fitted without it (k folds). The images are ranked by the
difference between the score of the best other class and that of their label, which is the simplest
form of confident learning (Northcutt et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Annotated

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage import records
from imgpipe.models.arrays import Flags, Integers
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.head.label_margins import label_margins

if TYPE_CHECKING:
    from imgpipe.models.training.history import History

#: Smallest margin of a label that is clearly doubtful. The score of a class is between about 0 and
#: 1, so the score of the other class is higher by three tenths of this range.
CLEAR = 0.3
#: Below this accuracy of the head in cross-validation, many of its doubts are its own mistakes.
_WEAK_HEAD = 0.85
LIMIT = 500  # doubtful labels that are listed
_FEWEST = 20  # number of images for which folds are meaningful


class DoubtfulLabel(TypedDict):
    """An image that looks like another class than that of its label."""

    path: Annotated[str, "Path in the source."]
    label: Annotated[str, "Its label."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    split: Annotated[str, "Its split."]
    looks_like: Annotated[str, "The class with the highest score."]
    margin: Annotated[float, "By how much the score of this class exceeds that of the label."]


class DoubtfulLabels(TypedDict):
    """The labels that look wrong."""

    images: Annotated[int, "Number of images that were compared with their labels."]
    folds: Annotated[int, "Number of folds."]
    disagree: Annotated[int, "Number of images that look like another class."]
    rows: Annotated[list[DoubtfulLabel], "The first of these, the most likely label errors first."]


def doubtful_labels(
    rows: BankRows,
    bank_uri: str,
    vocabulary: Sequence[str],
    confirmed: Set[str] = frozenset(),
    limit: int = LIMIT,
) -> DoubtfulLabels | None:
    """Rank the doubtful labels of a feature bank, the most likely label errors first.

    Args:
        rows: Rows of view 0 of all splits.
        bank_uri: URI of the bank, which tells the paths.
        vocabulary: Class names in sorted order.
        confirmed: Hashes of images whose labels a person has confirmed; they are not listed.
        limit: Largest number of rows in the result.

    Returns:
        The ranking; None if there are too few images, groups or classes for one.
    """
    if len(rows) < _FEWEST or len(np.unique(rows.labels)) < 2:
        return None
    folds = rows.folds(FOLDS)
    if len(np.unique(folds)) < 2:  # one large group, such as a film
        return None
    features = rows.first_block().features
    margins, best = label_margins(features, rows.labels, folds, len(vocabulary))
    settled = np.isin(rows.hashes, [digest.encode() for digest in confirmed])
    disagreeing = np.flatnonzero((margins > 0) & ~settled & ~_alone(rows.labels, folds))
    worst = disagreeing[np.argsort(-margins[disagreeing], kind="stable")][:limit]
    split_and_path = records.places(bank_uri, rows.hashes[worst])
    listed: list[DoubtfulLabel] = [
        {
            "path": split_and_path[rows.hashes[place]][1],
            "label": vocabulary[rows.labels[place]],
            "image_hash": rows.hashes[place].decode(),
            "split": split_and_path[rows.hashes[place]][0],
            "looks_like": vocabulary[best[place]],
            "margin": round(float(margins[place]), 4),
        }
        for place in worst
    ]
    return {"images": len(rows), "folds": FOLDS, "disagree": len(disagreeing), "rows": listed}


def _alone(labels: Integers, folds: Integers) -> Flags:
    """Return which images have a class that no other fold has, so that no head knows it."""
    counts = np.zeros((int(folds.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (folds, labels), 1)
    return np.asarray(counts[folds, labels] == counts.sum(axis=0)[labels])


def clear(rows: Sequence[DoubtfulLabel]) -> list[DoubtfulLabel]:
    """Select the rows of the ranking whose margin is at least `CLEAR`."""
    return [row for row in rows if row["margin"] >= CLEAR]


def weak_accuracy(training: History | None) -> float | None:
    """Return the accuracy of a head many of whose doubts are mistakes; None for a better one."""
    solution = training["solution"] if training is not None else None
    accuracy = solution["accuracy"] if solution is not None else None
    return accuracy if accuracy is not None and accuracy < _WEAK_HEAD else None
