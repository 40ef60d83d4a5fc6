"""Likely label errors: images whose features resemble another class than their label.

Every image of the bank is scored by a linear head that was fitted without it (k folds). The images
are ranked by the difference between the score of the best other class and that of their label,
which is the simplest form of confident learning (Northcutt et al. 2021). The head is a ridge
regression on one-hot labels, because one sum over the images is enough to fit all folds. On these
features it ranks images as a logistic head does, and its weight decay is chosen automatically.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components import records
from imgpipe.components.image_filter.overrides import Override, to_toml
from imgpipe.models import bank
from imgpipe.models import feature_names as names

FOLDS = 5
#: Weight decays as multiples of the mean squared feature; the one with the best accuracy on the
#: held-out folds is used.
_DECAYS = (0.1, 0.3, 1.0)
#: Number of classes above which only one decay is tried, because each one takes time proportional
#: to rows × features × classes.
_MANY_CLASSES, _DECAY_OF_MANY = 1_000, (0.3,)
#: Smallest number of images for which folds are meaningful.
_FEWEST = 20
#: Number of suspects that are listed.
LIMIT = 500
_ROWS = 4096  # images in float64 at once: 42 MB
#: Number of features above which a sketch of them is used, and the length of the sketch. Backbones
#: that flatten their feature map have so many. Memory grows with the square of this number, and
#: time with its cube.
_WIDEST, _SKETCH = 2048, 1024

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Suspect:
    """An image whose label is doubted."""

    path: str
    split: str
    label: str
    looks_like: str
    margin: float  # score of `looks_like` minus that of `label`, about 0..2; larger is surer
    image_hash: str


@dataclass(frozen=True)
class CleanViews:
    """The clean views of all labelled images: features [n, d], labels [n], hashes and paths."""

    features: Floats
    labels: Integers
    hashes: list[str]
    paths: list[str]
    splits: list[str]


def rank(bank_uri: str, vocabulary: Sequence[str], limit: int = LIMIT) -> dict[str, Any] | None:
    """Rank the suspects of a feature bank, the most likely label errors first.

    Args:
      bank_uri: URI of the Examples of FeatureBank.
      vocabulary: Class names in sorted order.
      limit: Largest number of suspects in the result.

    Returns:
      ``{"images", "folds", "disagree", "rows": [Suspect as dict, …]}``; `disagree` counts all
      images that look like another class, `rows` holds the first `limit`. None if there are
      no features, or too few images or classes for a ranking.
    """
    if not bank.read_dim(bank_uri):
        return None
    views = _read(bank_uri)
    if len(views.labels) < _FEWEST or len(np.unique(views.labels)) < 2:
        return None
    folds = np.array([int(digest[:8], 16) % FOLDS for digest in views.hashes])
    doubts = out_of_fold(views.features, views.labels, folds, len(vocabulary))
    found, best = doubts.margins, doubts.best
    order = [i for i in np.argsort(-found, kind="stable").tolist() if found[i] > 0]
    rows = [
        Suspect(
            views.paths[i],
            views.splits[i],
            vocabulary[views.labels[i]],
            vocabulary[best[i]],
            round(float(found[i]), 4),
            views.hashes[i],
        )
        for i in order[:limit]
    ]
    return {
        "images": len(views.labels),
        "folds": FOLDS,
        "disagree": len(order),
        "rows": [asdict(row) for row in rows],
    }


@dataclass(frozen=True)
class Doubts:
    """Predictions for images by heads that were trained without them.

    Attributes:
      margins: Score of the best other class minus that of the label, [n]; above 0 they disagree.
      best: The class with the highest score, [n].
    """

    margins: Floats
    best: Integers


def out_of_fold(features: Floats, labels: Integers, folds: Integers, classes: int) -> Doubts:
    """Score each row with a head that was fitted on the other folds.

    Only the scores of a few thousand rows are in memory at a time.

    Args:
      features: [n, d], any float type.
      labels: [n], 0..classes-1.
      folds: [n], the fold of each row; rows that belong together should be in the same fold.
      classes: Number of classes.
    """
    gram, moments = _sums(features, labels, folds, classes)
    numbers = sorted(gram)
    whole, total = sum(gram.values()), sum(moments.values())
    found: list[tuple[float, Doubts]] = []
    for decay in _DECAYS if classes <= _MANY_CLASSES else _DECAY_OF_MANY:
        doubts = Doubts(np.empty(len(labels), np.float32), np.empty(len(labels), np.int64))
        for number in numbers:
            left = whole - gram[number]
            weight = decay * np.trace(left) / len(left) * np.eye(len(left))
            solution = np.linalg.solve(left + weight, total - moments[number])
            positions = np.flatnonzero(folds == number)
            for start in range(0, len(positions), _ROWS):
                part = positions[start : start + _ROWS]
                scores = _prepared(features[part]) @ solution
                doubts.best[part] = scores.argmax(axis=1)
                doubts.margins[part] = _margins(scores, labels[part])
        found.append((float(np.mean(doubts.best == labels)), doubts))
    return max(found, key=lambda one: one[0])[1]


def _margins(scores: Floats, labels: Integers) -> Floats:
    """Compute by how much the best other class exceeds the label, [n]; changes the scores."""
    rows = np.arange(len(labels))
    given = scores[rows, labels]
    scores[rows, labels] = -np.inf
    return np.asarray(scores.max(axis=1) - given)


def review_file(found: dict[str, Any]) -> str:
    """Return proposals to relabel the suspects, as a file of overrides for people to review.

    Suspects of the test split are left out, because overrides never change a label of test.
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
    features: Floats, labels: Integers, folds: Integers, classes: int
) -> tuple[dict[int, Floats], dict[int, Floats]]:
    """Sum features × features [d, d] and features × centred one-hot labels [d, classes] by fold."""
    gram: dict[int, Floats] = {}
    moments: dict[int, Floats] = {}
    for number in np.unique(folds).tolist():
        positions = np.flatnonzero(folds == number)
        width = features.shape[1] + 1
        gram[number] = np.zeros((width, width))
        moments[number] = np.zeros((width, classes))
        for start in range(0, len(positions), _ROWS):
            part = positions[start : start + _ROWS]
            rows = _prepared(features[part])
            gram[number] += rows.T @ rows
            known = np.full((len(part), classes), -1 / classes)
            known[np.arange(len(part)), labels[part]] += 1
            moments[number] += rows.T @ known
    return gram, moments


def _prepared(features: Floats) -> Floats:
    """Return float64 [m, d + 1]: the rows scaled to length √d, and a column of ones."""
    rows = np.asarray(features, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1.0) * np.sqrt(rows.shape[1])
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def sketch(row: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Return a row of few features as it is, and [_SKETCH] sums of features with random signs else.

    This is a count sketch (Charikar et al. 2002), which keeps the products of rows on average.
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


def _read(bank_uri: str) -> CleanViews:
    """Read the clean views of all splits as float16."""
    dim = bank.read_dim(bank_uri)
    parts: list[npt.NDArray[np.float16]] = [
        np.empty((0, dim if dim <= _WIDEST else _SKETCH), np.float16)
    ]
    labels, hashes, paths, splits = [], [], [], []
    for split, example in _clean(bank_uri):
        vector = np.frombuffer(records.raw(example, names.FEATURES), "<f2")
        parts.append(sketch(vector)[None])
        labels.append(records.integer(example, names.LABEL_INDEX, -1))
        hashes.append(records.text(example, names.IMAGE_HASH))
        paths.append(records.text(example, names.PATH))
        splits.append(split)
    features = np.concatenate(parts)
    return CleanViews(features, np.array(labels, np.int64), hashes, paths, splits)


def _clean(bank_uri: str) -> Iterator[tuple[str, Any]]:
    for split in names.SPLITS:
        for example in records.iterate(bank_uri, split):
            labelled = records.integer(example, names.LABEL_INDEX, -1) >= 0
            if labelled and records.integer(example, names.VIEW) == 0:
                yield split, example
