"""The training images that are nearest to an image, by the features of the bank.

Near images with another label show what the model has learned a mistake from: a wrong label in the
training data, or two classes that look alike to the backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models.examples import columns
from imgpipe.models.features import bank
from imgpipe.models.features.rows import Rows, blocks

#: Images for which neighbours are looked up in each split, and neighbours of each of them.
ASKED, SHOWN = 24, 3
_ROWS = 4096  # rows that are compared at once

Floats = npt.NDArray[np.float32]


def nearest(
    bank_uri: str, vocabulary: Sequence[str], wanted: Mapping[str, Sequence[str]]
) -> dict[str, list[dict[str, Any]]]:
    """Find the training images nearest to images of other splits.

    Args:
        bank_uri: URI of the Examples of FeatureBank.
        vocabulary: Class names in sorted order.
        wanted: Hashes of the images by split.

    Returns:
        ``{"path", "label", "image_hash", "similarity"}`` of the nearest training images by image
        hash, the nearest first; the similarity is the cosine of the features. Empty if there are
        no features.
    """
    if not any(wanted.values()) or not bank.read_dim(bank_uri):
        return {}
    hashes, queries = _queries(bank_uri, len(vocabulary), wanted)
    if not hashes:
        return {}
    rows = bank.read_rows(bank_uri, names.TRAIN, len(vocabulary), 0)
    similarity, positions = closest(rows.features, queries)
    near = paths(bank_uri, {rows.hashes[i] for i in positions.flat}, (names.TRAIN,))
    return {
        digest: [
            {
                "path": near[rows.hashes[position]][0],
                "label": vocabulary[rows.labels[position]],
                "image_hash": rows.hashes[position].decode(),
                "similarity": round(float(cosine), 4),
            }
            for cosine, position in zip(similarity[i], positions[i], strict=True)
        ]
        for i, digest in enumerate(hashes)
    }


def closest(features: Rows, queries: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Find the rows with the largest cosine to each query.

    Args:
        features: Features of all rows, [n, d].
        queries: [m, d], scaled to length 1.

    Returns:
        Cosines and numbers of the rows, [m, min(n, SHOWN)], the nearest first.
    """
    best = np.empty((len(queries), 0), np.float32)
    positions = np.empty((len(queries), 0), np.int64)
    for part, block in blocks(features, _ROWS):
        best = np.concatenate([best, queries @ unit(block).T], axis=1)
        numbers = np.arange(part.start, part.stop)
        positions = np.concatenate([positions, np.tile(numbers, (len(queries), 1))], axis=1)
        order = np.lexsort((positions, -best), axis=1)[:, :SHOWN]
        best = np.take_along_axis(best, order, axis=1)
        positions = np.take_along_axis(positions, order, axis=1)
    return best, positions


def unit(rows: npt.NDArray[Any], kind: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return rows [n, d] of this number type, scaled to length 1; rows of zeros stay."""
    rows = np.asarray(rows, kind)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), kind)


def _queries(
    bank_uri: str, classes: int, wanted: Mapping[str, Sequence[str]]
) -> tuple[list[str], Floats]:
    """Read the features of the wanted images: their hashes, and [m, d]."""
    hashes: list[str] = []
    parts = []
    for split, some in wanted.items():
        if not some:
            continue
        rows = bank.read_rows(bank_uri, split, classes, 0)
        positions = np.flatnonzero(np.isin(rows.hashes, [digest.encode() for digest in some]))
        parts.append(unit(rows.features[positions]))
        hashes += [rows.hashes[position].decode() for position in positions]
    return hashes, np.concatenate(parts)


def paths(
    bank_uri: str, wanted: Set[bytes], splits: Sequence[str] = names.SPLITS
) -> dict[bytes, tuple[str, str]]:
    """Read path and split of the images with these hashes from the records of a bank."""
    found: dict[bytes, tuple[str, str]] = {}
    for split in splits:
        files = records.shard_files(bank_uri, split)
        for parsed in columns(files, names.IMAGE_HASH, names.PATH):
            for digest, path in zip(parsed[names.IMAGE_HASH], parsed[names.PATH], strict=True):
                if digest in wanted:
                    text = path.decode("utf-8", "surrogateescape")
                    found.setdefault(digest, (text, split))
            if len(found) == len(wanted):
                return found
    return found
