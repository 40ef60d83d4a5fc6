"""A row of images for each class: some of them, and those that are least typical of the class."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

from imgpipe.components.common.named_images import NamedImage
from imgpipe.components.common.storage import records
from imgpipe.components.image_filter.judge.image_row import ImageRow
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.feature_distribution import unit
from imgpipe.models.features.rows import blocks

_IMAGES = 600  # of all classes together, so that the page of any data set stays small
_MOST, _FEWEST = 12, 4  # images of a class
_ROWS = 4096  # that are in memory at once
_WIDEST = 2048  # most features that are used, evenly drawn
_TINY = 1e-12  # keeps a division finite
_LEAST_SHARE = 4  # one of four images of a row is one of the least typical ones
_TYPICAL = 6  # a review shows three of them that are not themselves in question


class Gallery(TypedDict):
    """Images of one class."""

    name: Annotated[str, "The class."]
    count: Annotated[int, "Number of its images in all splits."]
    sample: Annotated[list[NamedImage], "Some of its images, chosen at random."]
    least: Annotated[
        list[NamedImage],
        "Those whose features are farthest from the mean of the others; empty without features.",
    ]
    typical: Annotated[
        list[NamedImage],
        "Those whose features are nearest to the mean of the others; empty without features.",
    ]


def row_length(classes: int) -> int:
    """Return the number of images in a row."""
    return min(_MOST, max(_FEWEST, _IMAGES // max(classes, 1)))


def galleries(rows: BankRows, bank_uri: str, vocabulary: Sequence[str]) -> list[Gallery]:
    """Choose images of each class of a feature bank.

    Args:
        rows: Rows of view 0 of all splits.
        bank_uri: URI of the bank, which tells the paths.
        vocabulary: Class names in sorted order.
    """
    length = row_length(len(vocabulary))
    far = distances(rows.first_block(), len(vocabulary))
    sample: list[npt.NDArray[np.int64]] = []
    least: list[npt.NDArray[np.int64]] = []
    typical: list[npt.NDArray[np.int64]] = []
    for label in range(len(vocabulary)):
        # Rows are sorted by content hash, so the first ones are a random sample.
        places = np.flatnonzero(rows.labels == label)
        ranked = places[np.argsort(-far[places], kind="stable")]
        strange = ranked[: min(length, len(places)) // _LEAST_SHARE]
        least.append(strange)
        nearest = ranked[::-1]
        # One image of each group, whose images are nearly the same.
        _, first_of_groups = np.unique(rows.groups[nearest], return_index=True)
        typical.append(nearest[np.sort(first_of_groups)[:_TYPICAL]])
        sample.append(places[~np.isin(places, strange)][: length - len(strange)])
    chosen = np.concatenate([*sample, *least, *typical]) if vocabulary else np.empty(0, np.int64)
    paths = records.places(bank_uri, rows.hashes[chosen])

    def images(places: npt.NDArray[np.int64]) -> list[NamedImage]:
        digests = rows.hashes[places].tolist()
        return [{"path": paths[digest][1], "image_hash": digest.decode()} for digest in digests]

    return [
        {
            "name": name,
            "count": int((rows.labels == label).sum()),
            "sample": images(sample[label]),
            "least": images(least[label]),
            "typical": images(typical[label]),
        }
        for label, name in enumerate(vocabulary)
    ]


def distances(rows: BankRows, classes: int) -> npt.NDArray[np.float64]:
    """Return the cosine distance of each row from the mean of the others of its class, [n].

    Only a few thousand rows are in memory at a time.
    """
    from scipy.sparse import csr_matrix

    features = rows.features[:, :: -(-rows.features.shape[1] // _WIDEST)]
    sums = np.zeros((classes, features.shape[1]))
    for part, block in blocks(features, _ROWS):
        labels = rows.labels[part]
        ones = np.ones(len(labels))
        members = csr_matrix((ones, (labels, np.arange(len(labels)))), (classes, len(labels)))
        sums += members @ unit(block)
    distance = np.empty(len(rows))
    for part, block in blocks(features, _ROWS):
        features_of_rows = unit(block)
        others = sums[rows.labels[part]] - features_of_rows
        lengths = np.maximum(np.linalg.norm(others, axis=1), _TINY)
        distance[part] = 1 - np.einsum("ij,ij->i", features_of_rows, others) / lengths
    return distance


def sampled(kept: Iterable[ImageRow], vocabulary: Sequence[str]) -> list[Gallery]:
    """Choose images of each class at random, where there are no features yet.

    Args:
        kept: The kept images.
        vocabulary: Class names in sorted order.
    """
    by_class: dict[str, list[ImageRow]] = defaultdict(list)
    for row in kept:
        by_class[row.label].append(row)
    return [_sampled(name, by_class[name], row_length(len(vocabulary))) for name in vocabulary]


def _sampled(name: str, rows: Sequence[ImageRow], length: int) -> Gallery:
    """Return the images of a class with the smallest hashes, which are as good as random."""
    chosen = heapq.nsmallest(length, rows, key=lambda row: row.image_hash)
    return {
        "name": name,
        "count": len(rows),
        "sample": [{"path": row.path, "image_hash": row.image_hash} for row in chosen],
        "least": [],
        "typical": [],
    }
