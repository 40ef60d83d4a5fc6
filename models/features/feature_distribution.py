"""The distribution of the training images' features, and the distance of other images from it.

The distribution is stored in the exported model, so that `imgpipe drift` can tell whether some of
the images that a server received are of another kind: hands that are sent to a model of flowers,
for example. The score of an image is its Mahalanobis distance to the nearest class, computed on the
leading principal components with one covariance for all classes (Lee et al. 2018, "A Simple Unified
Framework for Detecting Out-of-Distribution Samples"), plus the part of the features that these
components do not represent (as in ViM, Wang et al. 2022). Held-out images of the same data show
which scores are usual. Where there are too few of them, training images are held out in turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imgpipe.models import names
from imgpipe.models.arrays import Array, Floats, Integers
from imgpipe.models.errors import ResourceError
from imgpipe.models.features import folds, rows
from imgpipe.models.files import stored_arrays
from imgpipe.models.machine.process import one_blas_thread

if TYPE_CHECKING:
    import tensorflow as tf

#: Largest number of principal components; more do not detect other kinds of images better. See
#: docs/benchmarks.md, "Constants of the code".
_COMPONENTS: Final = 64
#: Fewer images have no distribution: ten of each of two classes, without those of a fold.
_FEWEST_TRAIN: Final = 12
MOST: Final = 8_000  # images that are used, sampled evenly: 41 MB of the default features
#: With fewer held-out images, training images are held out in turn, too; with fewer scores in all,
#: none are usual, and with fewer than the last number, the highest ones are extrapolated.
_ENOUGH_HELD_OUT: Final = 50
_FEWEST_SCORES: Final = 10
_FEW_SCORES: Final = 100
_MANY: Final = 500  # training images from which each fold has enough
#: Most features of an image; the covariance of more takes over 130 MB.
LONGEST: Final = 4096
_SHRINKAGE: Final = 0.1  # share by which the covariance moves towards a multiple of the identity
#: Quantile of the held-out scores above which an image is unlike the training data.
_QUANTILE: Final = 0.99
#: Share of images like the training data whose score exceeds `FeatureDistribution.far`. A few
#: hundred held-out scores are too few to measure this quantile, so it is extrapolated.
FAR_SHARE: Final = 0.001
_TAIL: Final = 0.1  # share of the held-out scores, the highest ones, that are extrapolated
_ROWS: Final = 4096  # rows that are scored at once
_TINY: Final = 1e-9  # keeps divisions finite


@dataclass(frozen=True)
class FeatureDistribution:
    """Gaussian distributions of the features, scaled to length 1: one for each class.

    All classes have the same covariance.

    Attributes:
        centre: Mean of all training images, float32 [D].
        axes: Principal components, float32 [D, k].
        whitening: Matrix that makes the covariance of the classes the identity, float32 [k, k].
        means: Whitened mean of each class, float32 [C, k].
        rest: Mean square of the part of a training image's features that the components leave out.
        threshold: Score above which an image is unlike the training data.
        held_out: Number of held-out images from which the threshold was taken.
        held_out_above: Number of those images with a score above the threshold.
        far: Score that a share of `FAR_SHARE` of images like the training data exceeds. It is
            extrapolated with an exponential distribution of the highest held-out scores.
    """

    centre: Floats
    axes: Floats
    whitening: Floats
    means: Floats
    rest: float
    threshold: float = 0.0
    held_out: int = 0
    held_out_above: int = 0
    far: float = math.inf

    def scores(self, features: Array) -> Floats:
        """Return the distance of each image from the training data, [n], for features [n, D]."""
        parts = [self.distances(block).numpy() for _, block in rows.blocks(features, _ROWS)]
        return np.concatenate([np.empty(0), *parts])

    def distances(self, features: Any) -> tf.Tensor:
        """Return `scores` as a tensor, also of a graph: the served model has the same measure."""
        import tensorflow as tf

        block = tf.cast(features[:, : len(self.centre)], tf.float32)  # the first block of features
        length = tf.sqrt(tf.reduce_sum(block * block, axis=1, keepdims=True))
        centred = block / tf.maximum(length, _TINY) - self.centre
        inside = centred @ self.axes
        left_out = tf.reduce_sum(centred * centred, axis=1) - tf.reduce_sum(inside * inside, axis=1)
        white = inside @ self.whitening
        # |w - m|² = |w|² + |m|² - 2 w·m needs no array of images by classes by components.
        squares = tf.reduce_sum(white * white, axis=1, keepdims=True) + _squared_lengths(self.means)
        nearest = tf.reduce_min(squares - 2 * white @ self.means.T, axis=1)
        # Both terms are about the number of components for an image of the training data.
        return nearest + self.axes.shape[1] * tf.maximum(left_out, 0) / self.rest

    def save(self, directory: str) -> None:
        """Write the distribution into the folder of an exported SavedModel."""
        stored_arrays.write(directory, names.DISTRIBUTION_FILE, vars(self))


def load(directory: str) -> FeatureDistribution | None:
    """Read the distribution of an exported model; None when it has none that can be read."""
    try:
        stored = stored_arrays.read(directory, names.DISTRIBUTION_FILE, "a distribution") or {}
    except ResourceError:
        return None
    if stored.keys() != {field.name for field in fields(FeatureDistribution)}:
        return None
    values: dict[str, Any] = {k: v if v.ndim else v.item() for k, v in stored.items()}
    return FeatureDistribution(**values)


def fit(
    features: Floats,
    labels: Integers,
    held_out: Array,
    groups: Array | None = None,
) -> FeatureDistribution | None:
    """Compute the distribution of the features of training images.

    Args:
        features: Features of the training images, float [n, D], whose order does not depend on the
            classes.
        labels: Their label indices, integers [n].
        held_out: Features of images that were not trained on, float [m, D].
        groups: Name of the group of similar images to which each training image belongs, [n]. With
            it, training images are held out in turn if there are too few in `held_out`. None if the
            network was trained on the images, so that their features are not those that it computes
            for others.

    Returns:
        The distribution; None when there are too few images or too many features.
    """
    step = -(-len(features) // MOST) or 1  # rounded up, so that at most `MOST` rows remain
    features = features[::step]
    labels = labels[::step]
    if len(features) < _FEWEST_TRAIN or not 0 < features.shape[1] <= LONGEST:
        return None
    grouped = np.arange(len(features)) if groups is None else groups[::step]
    described = _described(features, labels, grouped)
    scores = described.scores(held_out)
    if len(scores) < _ENOUGH_HELD_OUT and groups is not None:
        scores = np.concatenate([scores, _scores_in_turn(features, labels, grouped)])
    if len(scores) < (_FEWEST_SCORES if groups is not None else _ENOUGH_HELD_OUT):
        return None
    threshold = float(np.quantile(scores, _QUANTILE))
    if len(scores) < _FEW_SCORES:
        threshold = max(threshold, _exceeded_by(scores, 1 - _QUANTILE))
    return replace(
        described,
        threshold=threshold,
        held_out=len(scores),
        held_out_above=int((scores > threshold).sum()),
        far=_exceeded_by(scores, FAR_SHARE),
    )


def _scores_in_turn(features: Floats, labels: Integers, groups: Array) -> Floats:
    """Return scores of training images by distributions of others; none when these are too few.

    Images of a group look alike, so that all of them are held out together and one has a score.
    """
    # With a tenth left out, a distribution of few images is more like that of all of them.
    turns = folds.FOLDS if len(labels) > _MANY else 2 * folds.FOLDS
    fold = folds.assign(labels, groups.astype("S"), turns)
    first = np.isin(np.arange(len(groups)), np.unique(groups, return_index=True)[1])
    scores: list[Floats] = [np.empty(0)]
    for number in range(turns):
        train = fold != number
        if train.sum() < _FEWEST_TRAIN:
            return scores[0]
        described = _described(features[train], labels[train], groups[train])
        scores.append(described.scores(features[first & ~train]))
    return np.concatenate(scores)


def _described(features: Floats, labels: Integers, groups: Array) -> FeatureDistribution:
    """Return the distribution of features, without the scores that are usual."""
    centred = unit(features)
    centre = centred.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred -= centre
    # With more components than half of the different images, almost nothing would be left out.
    count = max(1, min(_COMPONENTS, len(np.unique(groups)) // 2, features.shape[1]))
    axes = _principal_axes(centred, count)
    inside, left_out = _divided(centred, axes)
    classes, indices = np.unique(labels, return_inverse=True)
    means = np.zeros((len(classes), count), np.float32)
    np.add.at(means, indices, inside)
    means /= np.bincount(indices)[:, None]
    spread = inside - means[indices]
    # A covariance of few images is too small in some directions, which its inverse exaggerates.
    covariance = spread.T @ spread / len(features)
    covariance += (_SHRINKAGE * np.trace(covariance) / count + _TINY) * np.eye(count)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T.astype(np.float32)
    rest = max(float(left_out.mean()), _TINY)
    return FeatureDistribution(centre, axes, whitening, means @ whitening, rest)


def _principal_axes(centred: Floats, count: int) -> Floats:
    """Return the directions in which centred rows differ most, [D, count]."""
    from scipy import linalg

    few = len(centred) < centred.shape[1]  # then the products of the rows give the same directions
    products = centred @ centred.T if few else centred.T @ centred
    last = len(products) - 1
    with one_blas_thread():
        _, vectors = linalg.eigh(products, subset_by_index=[last + 1 - count, last])
        vectors = vectors[:, ::-1]
        if few:
            # The columns are orthogonal, but as long as the data along them, which may be 0.
            vectors, _ = linalg.qr(centred.T @ vectors, mode="economic")
    return np.asarray(vectors)


def _divided(centred: Floats, axes: Floats) -> tuple[Floats, Floats]:
    """Return the coordinates of centred rows on the components, and their rest's squared length."""
    inside = centred @ axes
    return inside, _squared_lengths(centred) - _squared_lengths(inside)


def _exceeded_by(scores: Floats, share: float) -> float:
    """Extrapolates the score that a share of the images of the same kind exceed.

    The excesses over a high quantile are nearly exponential (peaks over threshold; Pickands 1975).
    """
    start = float(np.quantile(scores, 1 - _TAIL))
    excess = scores[scores > start] - start
    return start + float(excess.mean()) * math.log(_TAIL / share) if len(excess) else start


def unit(features: Floats) -> Floats:
    """Return a copy of the rows as float32, each of which has length 1."""
    units = np.array(features, np.float32)
    units /= np.maximum(np.sqrt(_squared_lengths(units)), _TINY)[:, None]
    return units


def _squared_lengths(rows: Floats) -> Floats:
    """Return the squared length of each row, [n], without a copy of the rows."""
    return np.asarray(np.einsum("ij,ij->i", rows, rows))
