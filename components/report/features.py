"""What the stored features say: labels that look wrong.

Every image of the bank is scored by a linear head that was fitted without it (k folds). The images
are ranked by the difference between the score of the best other class and that of their label,
which is the simplest form of confident learning (Northcutt et al. 2021). The head is a ridge
regression on one-hot labels. The sums over all rows minus those of a fold are the sums without it,
so one pass over the features is enough for the heads of all folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.common.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models.features import bank
from imgpipe.models.features.feature_distribution import unit
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.features.rows import Rows, blocks
from imgpipe.models.process import one_blas_thread

#: Smallest margin of a label that is clearly doubtful. The score of a class is between about 0 and
#: 1, so the score of the other class is higher by three tenths of this range.
CLEAR = 0.3
LIMIT = 500  # doubtful labels that are listed
_DECAY = 0.3  # weight decay as a multiple of the mean squared feature
_FEWEST = 20  # number of images for which folds are meaningful
_ROWS = 4096  # images in float64 at once: 42 MB
#: Most features that are used, evenly drawn. Backbones that flatten their feature map have more.
#: Memory grows with the square of this number, and time with its cube.
_WIDEST = 2048

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]


def doubtful(
    bank_uri: str,
    vocabulary: Sequence[str],
    confirmed: Set[str] = frozenset(),
    limit: int = LIMIT,
) -> dict[str, Any] | None:
    """Rank the doubtful labels of a feature bank, the most likely label errors first.

    Args:
        bank_uri: URI of the Examples of FeatureBank, which holds features.
        vocabulary: Class names in sorted order.
        confirmed: Hashes of images whose labels a person has confirmed; they are not listed.
        limit: Largest number of rows in the result.

    Returns:
        ``{"images", "folds", "disagree", "rows": [{"path", "label", …}, …]}``; `disagree` counts
        all images that look like another class, `rows` holds the first `limit`. None if there are
        too few images, groups or classes for a ranking.
    """
    rows = bank.read_rows(bank_uri, names.SPLITS, len(vocabulary), 0)
    if len(rows) < _FEWEST or len(np.unique(rows.labels)) < 2:
        return None
    folds = rows.folds(FOLDS)
    if len(np.unique(folds)) < 2:  # one large group, such as a film
        return None
    margins, best = out_of_fold(rows.first_block().features, rows.labels, folds, len(vocabulary))
    settled = np.isin(rows.hashes, [digest.encode() for digest in confirmed])
    found = np.flatnonzero((margins > 0) & ~settled & ~_alone(rows.labels, folds))
    worst = found[np.argsort(-margins[found], kind="stable")][:limit]
    where = records.places(bank_uri, rows.hashes[worst])
    listed = [
        {
            "path": where[rows.hashes[place]][1],
            "label": vocabulary[rows.labels[place]],
            "image_hash": rows.hashes[place].decode(),
            "split": where[rows.hashes[place]][0],
            "looks_like": vocabulary[best[place]],
            "margin": round(float(margins[place]), 4),
        }
        for place in worst
    ]
    return {"images": len(rows), "folds": FOLDS, "disagree": len(found), "rows": listed}


def _alone(labels: Integers, folds: Integers) -> npt.NDArray[np.bool_]:
    """Return which images have a class that no other fold has, so that no head knows it."""
    counts = np.zeros((int(folds.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (folds, labels), 1)
    return np.asarray(counts[folds, labels] == counts.sum(axis=0)[labels])


def out_of_fold(
    features: Rows, labels: Integers, folds: Integers, classes: int
) -> tuple[Floats, Integers]:
    """Score each row with a head that was fitted on the other folds.

    Only the scores of a few thousand rows are in memory at a time.

    Args:
        features: [n, d], any float type, in memory or in a file.
        labels: [n], 0..classes-1.
        folds: [n], the fold of each row; rows that belong together should be in the same fold.
        classes: Number of classes.

    Returns:
        For each row, score of the best other class minus that of the label, [n], above 0 where they
        disagree; and the class with the highest score, [n].
    """
    features = features[:, :: -(-features.shape[1] // _WIDEST)]
    width = features.shape[1] + 1
    numbers = np.unique(folds).tolist()
    gram = {number: np.zeros((width, width)) for number in numbers}
    moments = {number: np.zeros((width, classes)) for number in numbers}
    for part, number, rows in _blocks(features, folds):
        known = np.full((len(part), classes), -1 / classes)  # one-hot labels minus their mean
        known[np.arange(len(part)), labels[part]] += 1
        gram[number] += rows.T @ rows
        moments[number] += rows.T @ known
    heads = _heads(gram, moments)
    margins, best = np.empty(len(labels), np.float32), np.empty(len(labels), np.int32)
    for part, number, rows in _blocks(features, folds):
        scores, given = rows @ heads[number], np.arange(len(part))
        best[part] = scores.argmax(axis=1)
        own = scores[given, labels[part]]
        scores[given, labels[part]] = -np.inf
        margins[part] = scores.max(axis=1) - own
    return margins, best


def _heads(gram: Mapping[int, Floats], moments: Mapping[int, Floats]) -> dict[int, Floats]:
    """Solve the head without each fold, [width, classes], from the sums of all folds."""
    from scipy import linalg

    whole, total = sum(gram.values()), sum(moments.values())
    heads = {}
    for number in gram:
        products = whole - gram[number]
        products[np.diag_indices_from(products)] += _DECAY * np.trace(products) / len(products)
        with one_blas_thread():
            heads[number] = linalg.solve(
                products, total - moments[number], assume_a="pos", overwrite_a=True
            )
    return heads


def _blocks(features: Rows, folds: Integers) -> Iterator[tuple[Integers, int, Floats]]:
    """Read the features in their order: positions of one fold, the fold, prepared rows.

    The rows are float64, scaled to length √d, with a column of ones.
    """
    for part, block in blocks(features, _ROWS):
        rows = unit(block).astype(np.float64)
        rows = np.column_stack([rows * np.sqrt(rows.shape[1]), np.ones(len(rows))])
        for number in np.unique(folds[part]).tolist():
            mine = np.flatnonzero(folds[part] == number)
            yield part.start + mine, number, rows[mine]


def clear(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Select the rows of the ranking whose margin is at least `CLEAR`."""
    return [row for row in rows if (row.get("margin") or 0) >= CLEAR]
