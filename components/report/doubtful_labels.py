"""Doubtful labels: images whose features resemble another class than their label.

Every image of the bank is scored by a linear head that was fitted without it (k folds). The images
are ranked by the difference between the score of the best other class and that of their label,
which is the simplest form of confident learning (Northcutt et al. 2021). The head is a ridge
regression on one-hot labels, whose heads for all folds are solved from the same sums. On these
features it ranks images as a logistic head does, and its weight decay is chosen automatically.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_filter.overrides import Override, to_toml
from imgpipe.components.report import neighbours
from imgpipe.models import feature_names as names
from imgpipe.models.features import bank
from imgpipe.models.features.rows import Rows, release
from imgpipe.models.one_thread import one_blas_thread

#: File beside the page, in the format of judge.overrides.
REVIEW_FILE = "suspects.toml"
#: Smallest margin of a label that is clearly doubtful. The score of a class is between about 0 and
#: 1, so the score of the other class is higher by three tenths of this range.
CLEAR = 0.3
FOLDS = 5
#: Weight decays as multiples of the mean squared feature; the one with the best accuracy on the
#: held-out folds is used.
_DECAYS = (0.1, 0.3, 1.0)
#: Number of classes above which only one decay is tried, because each one takes time proportional
#: to rows × features × classes.
_MANY_CLASSES, _DECAY_OF_MANY = 1_000, (0.3,)
#: Smallest number of images for which folds are meaningful.
_FEWEST = 20
#: Number of doubtful labels that are listed.
LIMIT = 500
_ROWS = 4096  # images in float64 at once: 42 MB
#: Number of features above which a sketch of them is used, and the length of the sketch. Backbones
#: that flatten their feature map have more features than this. Memory grows with the square of
#: this number, and time with its cube.
_WIDEST, _SKETCH = 2048, 1024

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]


def rank(
    bank_uri: str,
    vocabulary: Sequence[str],
    limit: int = LIMIT,
    confirmed: Set[str] = frozenset(),
) -> dict[str, Any] | None:
    """Rank the doubtful labels of a feature bank, the most likely label errors first.

    Args:
        bank_uri: URI of the Examples of FeatureBank.
        vocabulary: Class names in sorted order.
        limit: Largest number of rows in the result.
        confirmed: Hashes of images whose labels a person has confirmed; they are not listed.

    Returns:
        ``{"images", "folds", "disagree", "rows": [{"path", "label", …}, …]}``; `disagree` counts
        all images that look like another class, `rows` holds the first `limit`. None if there are
        no features, or too few images, groups or classes for a ranking.
    """
    if not bank.read_dim(bank_uri):
        return None
    clean = bank.read_rows(bank_uri, names.SPLITS, len(vocabulary), 0)
    if len(clean) < _FEWEST or len(np.unique(clean.labels)) < 2:
        return None
    folds = np.array([int(name[:8], 16) % FOLDS for name in clean.groups.tolist()], np.int8)
    if len(np.unique(folds)) < 2:  # a few large groups, such as films
        return None
    doubts = out_of_fold(clean.features, clean.labels, folds, len(vocabulary))
    settled = np.isin(clean.hashes, [digest.encode() for digest in confirmed])
    settled |= alone(clean.labels, folds)
    doubtful = np.flatnonzero((doubts.margins > 0) & ~settled)
    order = np.argsort(-doubts.margins[doubtful], kind="stable")
    worst = doubtful[order[:limit]].tolist()
    where = neighbours.paths(bank_uri, {clean.hashes[i] for i in worst})
    rows = [
        {
            "path": where[clean.hashes[i]][0],
            "split": where[clean.hashes[i]][1],
            "label": vocabulary[clean.labels[i]],
            "looks_like": vocabulary[doubts.best[i]],
            "margin": round(float(doubts.margins[i]), 4),
            "image_hash": clean.hashes[i].decode(),
        }
        for i in worst
    ]
    return {"images": len(clean), "folds": FOLDS, "disagree": len(doubtful), "rows": rows}


def alone(labels: Integers, folds: Integers) -> npt.NDArray[np.bool_]:
    """Return which images have a class that no other fold has, so that no head knows it.

    Args:
        labels: [n], 0..classes-1.
        folds: [n], the fold of each image.

    Returns:
        bool [n].
    """
    counts = np.zeros((int(folds.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (folds, labels), 1)
    return np.asarray(counts[folds, labels] == counts.sum(axis=0)[labels])


@dataclass(frozen=True)
class Doubts:
    """Predictions for images by heads that were trained without them.

    Attributes:
        margins: Score of the best other class minus that of the label, [n]; above 0 they disagree.
        best: The class with the highest score, [n].
    """

    margins: Floats
    best: Integers


def out_of_fold(features: Rows, labels: Integers, folds: Integers, classes: int) -> Doubts:
    """Score each row with a head that was fitted on the other folds.

    Only the scores of a few thousand rows are in memory at a time.

    Args:
        features: [n, d], any float type, in memory or in a file.
        labels: [n], 0..classes-1.
        folds: [n], the fold of each row; rows that belong together should be in the same fold.
        classes: Number of classes.
    """
    few = len(labels) <= _width(features)
    heads = (_FewRows if few else _ManyRows)(features, labels, folds, classes)

    def scored(decay: float) -> tuple[float, Doubts]:
        """Return the accuracy and the predictions of the heads with this weight decay."""
        doubts = Doubts(np.empty(len(labels), np.float32), np.empty(len(labels), np.int32))
        for part, scores in heads.scores(decay):
            doubts.best[part] = scores.argmax(axis=1)
            doubts.margins[part] = _margins(scores, labels[part])
        return float(np.mean(doubts.best == labels)), doubts

    decays = _DECAYS if classes <= _MANY_CLASSES else _DECAY_OF_MANY
    return max(map(scored, decays), key=lambda one: one[0])[1]


class _ManyRows:
    """Heads of all folds from sums over the rows: systems of as many equations as features.

    The sums of all rows minus those of a fold are the sums without it, so that one pass over the
    features is enough for all folds.
    """

    def __init__(self, features: Rows, labels: Integers, folds: Integers, classes: int) -> None:
        self._features, self._folds = features, folds
        self._gram, self._moments = _sums(features, labels, folds, classes)

    def scores(self, decay: float) -> Iterator[tuple[Integers, Floats]]:
        """Yield positions of rows and their scores, [m, classes], by a head without their fold."""
        whole, total = sum(self._gram.values()), sum(self._moments.values())
        heads = {
            number: _solve(whole - gram, total - self._moments[number], decay, len(gram))
            for number, gram in self._gram.items()
        }
        for part, number, rows in _blocks(self._features, self._folds):
            yield part, rows @ heads[number]


class _FewRows:
    """The same heads from the products of the rows: systems of as many equations as rows.

    A ridge regression has this dual form. It takes less time if there are fewer rows than features.
    """

    def __init__(self, features: Rows, labels: Integers, folds: Integers, classes: int) -> None:
        self._folds = folds
        rows = _prepared(np.asarray(features))
        self._width = rows.shape[1]
        self._products = rows @ rows.T
        self._known = _centred(labels, classes)

    def scores(self, decay: float) -> Iterator[tuple[Integers, Floats]]:
        """Yield positions of rows and their scores, [m, classes], by a head without their fold."""
        for number in np.unique(self._folds):
            part = np.flatnonzero(self._folds == number)
            rest = np.flatnonzero(self._folds != number)
            products = self._products[np.ix_(rest, rest)]
            weights = _solve(products, self._known[rest], decay, self._width)
            yield part, self._products[np.ix_(part, rest)] @ weights


def _solve(products: Floats, known: Floats, decay: float, width: int) -> Floats:
    """Solve the equations of a ridge regression; changes `products`.

    Args:
        products: Products of the features or of the rows, whose trace is the same, [m, m].
        known: Right-hand side, [m, classes].
        decay: Weight decay as a multiple of the mean squared feature.
        width: Number of features.
    """
    from scipy import linalg

    products[np.diag_indices_from(products)] += decay * np.trace(products) / width
    with one_blas_thread():
        found = linalg.solve(products, known, assume_a="pos", overwrite_a=True, check_finite=False)
    return np.asarray(found)


def _blocks(features: Rows, folds: Integers) -> Iterator[tuple[Integers, int, Floats]]:
    """Read the features in their order: positions of one fold, the fold, prepared rows."""
    for start in range(0, len(folds), _ROWS):
        block = np.arange(start, min(start + _ROWS, len(folds)))
        rows = _prepared(features[block])
        for number in np.unique(folds[block]).tolist():
            mine = folds[block] == number
            yield block[mine], number, rows[mine]
        release(features)


def _margins(scores: Floats, labels: Integers) -> Floats:
    """Compute by how much the best other class exceeds the label, [n]; changes the scores."""
    rows = np.arange(len(labels))
    given = scores[rows, labels]
    scores[rows, labels] = -np.inf
    return np.asarray(scores.max(axis=1) - given)


def clear(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Select the rows of the ranking whose margin is at least `CLEAR`."""
    return [row for row in rows if (row.get("margin") or 0) >= CLEAR]


def review_file(found: dict[str, Any]) -> str:
    """Return proposals for the doubtful labels, as a file of overrides for people to review.

    Labels of the test split are left out, because overrides never change them.
    """
    header = (
        "# Likely label errors, the most likely first. Each entry is a proposal, which changes\n"
        "# nothing while it says `confirmed = false`. Look at each image and set\n"
        "# `confirmed = true` where the label is wrong, then name this file in judge.overrides.\n"
        "# The next run relabels the confirmed images. Labels of the test split are corrected in\n"
        "# the data source alone.\n"
    )
    entries = [
        Override(
            row["image_hash"],
            "relabel",
            row["looks_like"],
            os.fsencode(row["path"]).decode("utf-8", "replace"),
            f"labelled {row['label']}; out of fold it looks like {row['looks_like']} "
            f"(margin {row['margin']:.2f})",
            confirmed=False,
        )
        for row in found["rows"]
        if row["split"] != names.TEST
    ]
    return header + to_toml(entries)


def _sums(
    features: Rows, labels: Integers, folds: Integers, classes: int
) -> tuple[dict[int, Floats], dict[int, Floats]]:
    """Sum features × features [d, d] and features × centred one-hot labels [d, classes] by fold."""
    width = _width(features)
    numbers = np.unique(folds).tolist()
    gram: dict[int, Floats] = {n: np.zeros((width + 1, width + 1)) for n in numbers}
    moments: dict[int, Floats] = {n: np.zeros((width + 1, classes)) for n in numbers}
    for part, number, rows in _blocks(features, folds):
        gram[number] += rows.T @ rows
        moments[number] += rows.T @ _centred(labels[part], classes)
    return gram, moments


def _width(features: Rows) -> int:
    """Return the number of features that are used."""
    return features.shape[1] if features.shape[1] <= _WIDEST else _SKETCH


def _centred(labels: Integers, classes: int) -> Floats:
    """Return one-hot labels minus their mean over the classes, [n, classes]."""
    known = np.full((len(labels), classes), -1 / classes)
    known[np.arange(len(labels)), labels] += 1
    return known


def _prepared(features: Floats) -> Floats:
    """Return float64 [m, d + 1]: the rows scaled to length √d, and a column of ones."""
    if features.shape[1] > _WIDEST:
        features = np.stack([sketch(row) for row in features])
    rows = neighbours.unit(features, np.float64) * np.sqrt(features.shape[1])
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def sketch(row: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Return a row with few features unchanged, and a sketch [_SKETCH] of a longer row.

    The sketch holds sums of features with random signs. This is a count sketch (Charikar et al.
    2002), which keeps the products of rows on average.
    """
    dim = len(row)
    if dim <= _WIDEST:
        return row
    order, signs = _draw(dim)
    mixed = np.zeros(-(-dim // _SKETCH) * _SKETCH, np.float32)
    mixed[order] = row * signs
    sums: npt.NDArray[np.float32] = mixed.reshape(-1, _SKETCH).sum(axis=0)
    return (sums / np.sqrt(len(mixed) / _SKETCH)).astype(np.float16)


@functools.lru_cache(maxsize=1)
def _draw(dim: int) -> tuple[Integers, Floats]:
    """Return the positions and signs [dim] of a sketch, which are always the same."""
    drawing = np.random.default_rng(0)
    signs = drawing.integers(0, 2, dim).astype(np.float32) * 2 - 1
    return drawing.permutation(dim), signs
