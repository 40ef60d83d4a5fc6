"""A map of images on a grid, on which similar images lie side by side."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.feature_distribution import unit
from imgpipe.models.machine.process import one_blas_thread

_FEWEST = 20  # images of which a map says something
_AXES = 30  # principal axes that are used; the neighbours in more of them are the same
_FLAT = 1e-3  # length of an axis of features of length 1 that is left out
_PLANE = 2  # axes of a plane
_NEIGHBOURS = 15  # perplexity: about the number of neighbours that stay near
_STEPS = 500  # at which the map of 400 images no longer changes
_FREE = 1.3  # fields of the grid for each image, so that gaps stay visible
_ASPECT = 1.3  # width of the grid by its height


class MapImage(TypedDict):
    """An image on the map."""

    image_hash: Annotated[str, "SHA-256 of the file."]
    label: Annotated[int, "Index of its label in the vocabulary."]
    column: Annotated[int, "Its column, from 0."]
    row: Annotated[int, "Its row, from 0."]
    right: Annotated[bool, "Whether it is predicted correctly."]


class ImageMap(TypedDict):
    """The map."""

    columns: Annotated[int, "Number of columns of the grid."]
    rows: Annotated[int, "Number of rows of the grid."]
    images: Annotated[list[MapImage], "The images, each in a field of its own."]


def image_map(rows: BankRows, sample: AnswerTable) -> ImageMap | None:
    """Place some images by their features.

    Args:
        rows: Rows of view 0 of all splits.
        sample: Answers to the images.

    Returns:
        The map; None with too few images, or if their features hardly differ.
    """
    right = dict(zip(sample.hashes.tolist(), sample.right.tolist(), strict=True))
    places = np.flatnonzero(np.isin(rows.hashes, sample.hashes))
    if len(places) < _FEWEST:
        return None
    columns = math.ceil(math.sqrt(len(places) * _FREE * _ASPECT))
    lines = math.ceil(len(places) * _FREE / columns)
    with one_blas_thread():
        axes = _principal_axes(unit(rows.first_block().features[places]))
    if axes.shape[1] < _PLANE:
        return None
    fields = _fields(_plane(axes), columns, lines)
    images: list[MapImage] = [
        {
            "image_hash": rows.hashes[place].decode(),
            "label": int(rows.labels[place]),
            "column": int(field % columns),
            "row": int(field // columns),
            "right": right[rows.hashes[place]],
        }
        for place, field in zip(places, fields, strict=True)
    ]
    return {"columns": columns, "rows": lines, "images": images}


def _principal_axes(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return features [n, d] along the principal axes in which they differ, at most `_AXES`."""
    left, sizes, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    axes = np.flatnonzero(sizes > _FLAT)[:_AXES]
    return np.asarray(left[:, axes] * sizes[axes], np.float32)


def _plane(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Place features [n, d] in a plane, [n, 2], by t-SNE (van der Maaten and Hinton 2008).

    More neighbours of an image on the grid have its label than with principal axes alone.
    """
    from sklearn.manifold import TSNE  # TFX has imported it already
    from threadpoolctl import threadpool_limits

    # On a busy machine, several threads wait for each other, which takes far longer.
    with threadpool_limits(1):
        perplexity = min(_NEIGHBOURS, len(features) // 4)
        tsne = TSNE(perplexity=perplexity, init="pca", max_iter=_STEPS, random_state=0)
        return np.asarray(tsne.fit_transform(features), np.float32)


def _fields(points: npt.NDArray[np.float32], columns: int, lines: int) -> npt.NDArray[np.int64]:
    """Return the field of the grid for each point, [n], so that all move as little as possible."""
    from scipy.optimize import linear_sum_assignment

    low = points.min(axis=0)
    span = np.maximum(points.max(axis=0) - low, 1e-12)
    wanted = (points - low) / span * [columns - 1, lines - 1]
    fields = np.stack(np.meshgrid(np.arange(columns), np.arange(lines)), axis=-1).reshape(-1, 2)
    costs = ((wanted[:, None] - fields[None]) ** 2).sum(axis=-1)
    return np.asarray(linear_sum_assignment(costs)[1], np.int64)
