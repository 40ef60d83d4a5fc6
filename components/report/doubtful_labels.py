"""Doubtful labels: images whose features resemble another class than their label.

Every image of the bank is scored by a linear head that was fitted without it (k folds). The images
are ranked by the difference between the score of the best other class and that of their label,
which is the simplest form of confident learning (Northcutt et al. 2021). The head is a ridge
regression on one-hot labels. The sums over all rows minus those of a fold are the sums without it,
so one pass over the features is enough for the heads of all folds. On these features it ranks
images as a logistic head does, and its weight decay is chosen automatically.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_filter.overrides import Override, to_toml
from imgpipe.components.report import neighbours
from imgpipe.models import feature_names as names
from imgpipe.models.features import bank
from imgpipe.models.features.rows import Rows, blocks
from imgpipe.models.process import one_blas_thread

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
    margins, best = out_of_fold(clean.features, clean.labels, folds, len(vocabulary))
    settled = np.isin(clean.hashes, [digest.encode() for digest in confirmed])
    settled |= alone(clean.labels, folds)
    doubtful = np.flatnonzero((margins > 0) & ~settled)
    order = np.argsort(-margins[doubtful], kind="stable")
    worst = doubtful[order[:limit]].tolist()
    where = neighbours.paths(bank_uri, {clean.hashes[i] for i in worst})
    rows = [
        {
            "path": where[clean.hashes[i]][0],
            "split": where[clean.hashes[i]][1],
            "label": vocabulary[clean.labels[i]],
            "looks_like": vocabulary[best[i]],
            "margin": round(float(margins[i]), 4),
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
    width = min(features.shape[1], _WIDEST if features.shape[1] <= _WIDEST else _SKETCH) + 1
    numbers = np.unique(folds).tolist()
    gram = {number: np.zeros((width, width)) for number in numbers}
    moments = {number: np.zeros((width, classes)) for number in numbers}
    for part, number, rows in _blocks(features, folds):
        known = np.full((len(part), classes), -1 / classes)  # one-hot labels minus their mean
        known[np.arange(len(part)), labels[part]] += 1
        gram[number] += rows.T @ rows
        moments[number] += rows.T @ known
    tried: list[tuple[float, tuple[Floats, Integers]]] = []
    for decay in _DECAYS if classes <= _MANY_CLASSES else _DECAY_OF_MANY:
        heads = _heads(gram, moments, decay)
        margins, best = np.empty(len(labels), np.float32), np.empty(len(labels), np.int32)
        for part, number, rows in _blocks(features, folds):
            scores, given = rows @ heads[number], np.arange(len(part))
            best[part] = scores.argmax(axis=1)
            own = scores[given, labels[part]]
            scores[given, labels[part]] = -np.inf
            margins[part] = scores.max(axis=1) - own
        tried.append((float(np.mean(best == labels)), (margins, best)))
    return max(tried, key=lambda one: one[0])[1]


def _heads(
    gram: Mapping[int, Floats], moments: Mapping[int, Floats], decay: float
) -> dict[int, Floats]:
    """Solve the head without each fold, [width, classes], from the sums of all folds."""
    from scipy import linalg

    whole, total = sum(gram.values()), sum(moments.values())
    heads = {}
    for number in gram:
        products = whole - gram[number]
        products[np.diag_indices_from(products)] += decay * np.trace(products) / len(products)
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
        rows = neighbours.unit(sketch(block), np.float64)
        rows = np.column_stack([rows * np.sqrt(rows.shape[1]), np.ones(len(rows))])
        for number in np.unique(folds[part]).tolist():
            mine = np.flatnonzero(folds[part] == number)
            yield part.start + mine, number, rows[mine]


def sketch(rows: Rows) -> Rows:
    """Return rows [n, d] unchanged, or a sketch [n, `_SKETCH`] of longer ones.

    The sketch holds sums of features with random signs. This is a count sketch (Charikar et al.
    2002), which keeps the products of rows on average.
    """
    dim = rows.shape[1]
    if dim <= _WIDEST:
        return rows
    drawing = np.random.default_rng(0)
    signs = drawing.integers(0, 2, dim).astype(np.float32) * 2 - 1
    mixed = np.zeros((len(rows), -(-dim // _SKETCH) * _SKETCH), np.float32)
    mixed[:, drawing.permutation(dim)] = rows * signs
    sums: Rows = mixed.reshape(len(rows), -1, _SKETCH).sum(axis=1)
    return sums


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
