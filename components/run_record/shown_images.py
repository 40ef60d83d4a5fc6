"""The images that a page shows: those of each class, and the map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

from imgpipe.components.common import images as tables
from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.image_row import PlacedImage
from imgpipe.models.arrays import Flags, Floats
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.feature_distribution import unit
from imgpipe.models.features.rows import blocks
from imgpipe.models.machine.process import one_blas_thread

if TYPE_CHECKING:
    import pandas as pd

_IMAGES = (
    600  # of the galleries of all classes together, so that the page of any data set stays small
)
#: Images of a class: of few classes the most, of many the fewest.
_MOST_OF_CLASS = 12
_FEWEST_OF_CLASS = 4
_ROWS = 4096  # that are in memory at once
_WIDEST = 2048  # most features that are used, evenly drawn
_TINY = 1e-12  # keeps a division finite
_LEAST_SHARE = 4  # one of four images of a row is one of the least typical ones
_TYPICAL = 3
_FEWEST_ON_MAP = 20  # images of which a map says something
_AXES = 30  # principal axes that a map uses; the neighbours in more of them are the same
_FLAT = 1e-3  # length of an axis of features of length 1 that is left out
_PLANE = 2  # axes of the map
_NEIGHBOURS = 15  # perplexity: about the number of neighbours that stay near
_STEPS = 500  # at which the map of 400 images no longer changes
_FREE = 1.3  # fields of the grid for each image, so that gaps stay visible
_ASPECT = 1.3  # width of the grid by its height


class Gallery(TypedDict):
    """Images of one class."""

    name: Annotated[str, "The class."]
    count: Annotated[int, "Number of its images in all splits."]
    sample: Annotated[list[PlacedImage], "Some of its images, chosen at random."]
    least: Annotated[
        list[PlacedImage],
        "Those whose features are farthest from the mean of the others; empty without features.",
    ]
    typical: Annotated[
        list[PlacedImage],
        "Images that show what the class looks like: those whose features are nearest to the mean "
        "of the others, whose labels are not in doubt; without features, some of the sample.",
    ]


def row_length(classes: int) -> int:
    """Return the number of images in a row."""
    return min(_MOST_OF_CLASS, max(_FEWEST_OF_CLASS, _IMAGES // max(classes, 1)))


def galleries(
    rows: BankRows, kept: pd.DataFrame, vocabulary: Sequence[str], far: Floats, doubted: Flags
) -> list[Gallery]:
    """Choose images of each class of a feature bank.

    Args:
        rows: Rows of view 0 of all splits.
        kept: The kept images, which tell the paths.
        vocabulary: Class names in sorted order.
        far: Distance of each row from its class, as `distances` returns it.
        doubted: Whether the label of each row is in doubt.
    """
    length = row_length(len(vocabulary))
    shown: list[Gallery] = []
    for label, name in enumerate(vocabulary):
        # Rows are sorted by content hash, so the first ones are a random sample.
        places = np.flatnonzero(rows.labels == label)
        ranked = places[np.argsort(-far[places], kind="stable")]
        strange = ranked[: min(length, len(places)) // _LEAST_SHARE]
        nearest = ranked[~doubted[ranked]][::-1]
        # One image of each group, whose images are nearly the same.
        _, first_of_groups = np.unique(rows.groups[nearest], return_index=True)
        typical = nearest[np.sort(first_of_groups)[:_TYPICAL]]
        others = places[~np.isin(places, strange)][: length - len(strange)]
        sample, least, best = (
            tables.placed(tables.find(kept, rows.hashes[chosen]))
            for chosen in (others, strange, typical)
        )
        gallery: Gallery = {
            "name": name,
            "count": len(places),
            "sample": sample,
            "least": least,
            "typical": best,
        }
        shown.append(gallery)
    return shown


class Distances(NamedTuple):
    """Cosine distances of images from the means of classes, without the image itself, [n] each."""

    own: Floats  # from the mean of its class
    nearest: Floats  # from the nearest mean


def distances(rows: BankRows, classes: int) -> Distances:
    """Return how far each row is from the mean of the others of its class, and of any class.

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
    own = np.empty(len(rows))
    nearest = np.empty(len(rows))
    means = sums / np.maximum(np.linalg.norm(sums, axis=1), _TINY)[:, None]
    for part, block in blocks(features, _ROWS):
        features_of_rows = unit(block)
        labels = rows.labels[part]
        others = sums[labels] - features_of_rows
        lengths = np.maximum(np.linalg.norm(others, axis=1), _TINY)
        own[part] = 1 - np.einsum("ij,ij->i", features_of_rows, others) / lengths
        from_means = 1 - features_of_rows @ means.T
        from_means[np.arange(len(labels)), labels] = own[part]
        nearest[part] = from_means.min(axis=1)
    return Distances(own, nearest)


def sampled(kept: pd.DataFrame, vocabulary: Sequence[str]) -> list[Gallery]:
    """Choose images of each class at random, where there are no features yet.

    Args:
        kept: The table of the kept images.
        vocabulary: Class names in sorted order.
    """
    by_hash = kept.sort_values("image_hash")  # the smallest hashes are as good as random
    length = row_length(len(vocabulary))
    of_classes: list[Gallery] = []
    for name in vocabulary:
        of_class = by_hash[by_hash["label"] == name]
        sample = tables.placed(of_class[:length])
        typical = sample[:_TYPICAL]
        count = len(of_class)
        of_classes.append(Gallery(name=name, count=count, sample=sample, least=[], typical=typical))
    return of_classes


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
    if len(places) < _FEWEST_ON_MAP:
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
