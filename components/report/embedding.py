"""A map of the feature bank: the two directions in which the images' features differ most.

This is a principal component analysis of the features of the images themselves (view 0), scaled to
length 1. Classes that overlap on the map may still be apart in the other directions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.report import neighbours, suspects
from imgpipe.models import feature_names as names
from imgpipe.models.features import bank
from imgpipe.models.features.row_file import gathered
from imgpipe.models.one_thread import one_blas_thread

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
    counts = {}
    for split in names.SPLITS:
        with bank.open_split(bank_uri, split, len(vocabulary), 0) as rows:
            counts[split] = len(rows)
    total = sum(counts.values())
    if total < _FEWEST:
        return None
    parts, attributes = [], []
    for number, split in enumerate(names.SPLITS):
        with bank.open_split(bank_uri, split, len(vocabulary), 0) as rows:
            marked = np.zeros(len(rows), np.bool_)
            if split in wrong:
                marked = wrong[split](rows.hashes)
            chosen = _chosen(marked, round(POINTS * counts[split] / total))
            if len(chosen):  # those of wide backbones as sketches
                sketches = [suspects.sketch(row) for row in gathered(rows.features, chosen)]
                parts.append(neighbours.unit(np.stack(sketches), np.float64))
            attributes += [(int(rows.labels[i]), number, int(marked[i])) for i in chosen]
    coordinates, share = principal(np.concatenate(parts))
    points = [
        [round(float(x), 3), round(float(y), 3), *values]
        for (x, y), values in zip(coordinates, attributes, strict=True)
    ]
    return {"images": total, "share": round(share, 4), "points": points}


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
        last = len(gram) - 1
        values, vectors = linalg.eigh(gram, subset_by_index=[last - 1, last])
    coordinates = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
    # An eigenvector may point either way; the longer side is drawn to the right and to the top.
    longest = coordinates[np.abs(coordinates).argmax(axis=0), [0, 1]]
    coordinates *= np.sign(longest) + (coordinates.max() == 0)
    total = float(np.trace(gram))
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
