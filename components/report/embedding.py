"""A map of the feature bank: the two directions in which the images' features differ most.

This is a principal component analysis of the features of the images themselves (view 0), scaled to
length 1. Classes that overlap on the map may still be apart in the other directions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.report import doubtful_labels, neighbours
from imgpipe.models import feature_names as names
from imgpipe.models.features import bank
from imgpipe.models.process import one_blas_thread

#: Largest number of points, and of mistakes among them.
POINTS, _MISTAKES = 2000, 500
_FEWEST = 10  # number of images below which no map is drawn

Wrong = Callable[[Any], npt.NDArray[np.bool_]]
Floats = npt.NDArray[np.float64]


def build(
    bank_uri: str, vocabulary: Sequence[str], wrong: Mapping[str, Wrong]
) -> dict[str, Any] | None:
    """Make the map.

    Args:
        bank_uri: URI of the Examples of FeatureBank.
        vocabulary: Class names in sorted order.
        wrong: For each evaluated split, a function from image hashes to whether those images are
            misclassified.

    Returns:
        ``{"images", "share", "points": [[x, y, class, split, wrong], …]}``: classes and splits by
        their indices, coordinates from -1 to 1. None if there are no features or few images.
    """
    if not bank.read_dim(bank_uri):
        return None
    sampled = _sampled(bank_uri, vocabulary, wrong)
    if sampled is None:
        return None
    total, rows, attributes = sampled
    coordinates, share = principal(rows)
    points = [
        [round(float(x), 3), round(float(y), 3), *values]
        for (x, y), values in zip(coordinates, attributes, strict=True)
    ]
    return {"images": total, "share": round(share, 4), "points": points}


def _sampled(
    bank_uri: str, vocabulary: Sequence[str], wrong: Mapping[str, Wrong]
) -> tuple[int, Floats, list[tuple[int, int, int]]] | None:
    """Choose the images of the map.

    Returns:
        The number of all images; for each chosen image its features [n, d], scaled to length 1, and
        its class, split and whether it is misclassified. None if there are few images.
    """
    tables = [bank.read_rows(bank_uri, split, len(vocabulary), 0) for split in names.SPLITS]
    total = sum(map(len, tables))
    if total < _FEWEST:
        return None
    parts, attributes = [], []
    for number, (split, rows) in enumerate(zip(names.SPLITS, tables, strict=True)):
        marked = np.zeros(len(rows), np.bool_)
        if split in wrong:
            marked = wrong[split](rows.hashes)
        chosen = _chosen(marked, round(POINTS * len(rows) / total))
        if len(chosen):  # those of wide backbones as sketches
            sketches = doubtful_labels.sketch(rows.features[chosen])
            parts.append(neighbours.unit(sketches, np.float64))
        attributes += [(int(rows.labels[i]), number, int(marked[i])) for i in chosen]
    return total, np.concatenate(parts), attributes


def principal(rows: Floats) -> tuple[Floats, float]:
    """Project rows on their first two principal components.

    Args:
        rows: [n, d], with more than one row.

    Returns:
        Coordinates [n, 2] from -1 to 1, and the share of the variance that they hold.
    """
    from scipy import linalg

    centred = rows - rows.mean(axis=0)
    with one_blas_thread():
        gram = centred @ centred.T  # [n, n], and n is at most POINTS
        last, total = len(gram) - 1, float(np.trace(gram))
        values, vectors = linalg.eigh(gram, subset_by_index=[last - 1, last], overwrite_a=True)
    coordinates = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
    # An eigenvector may point either way; the longer side is drawn to the right and to the top.
    longest = coordinates[np.abs(coordinates).argmax(axis=0), [0, 1]]
    coordinates *= np.sign(longest) + (coordinates.max() == 0)
    share = float(values.sum()) / total if total > 0 else 0.0
    return coordinates / max(float(np.abs(coordinates).max()), 1e-12), share


def _chosen(marked: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.int64]:
    """Choose about `count` positions: the mistakes, and others spread evenly."""
    if len(marked) <= count:
        return np.arange(len(marked))
    mistakes = np.flatnonzero(marked)[:_MISTAKES]
    others = np.flatnonzero(~marked)
    left = min(max(count - len(mistakes), 0), len(others))
    spread = others[np.linspace(0, len(others) - 1, left).astype(int)] if left else others[:0]
    return np.sort(np.concatenate([mistakes, spread]))
