"""How the features of the training images are distributed, and how far other images lie from it.

The distribution travels with the exported model, so that `imgpipe drift` can tell whether some of
the images that a server was asked about are of another kind: hands sent to a model of flowers, for
example. The score of an image is its Mahalanobis distance to the nearest class, within the leading
principal components and with one covariance for all classes (Lee et al. 2018, "A Simple Unified
Framework for Detecting Out-of-Distribution Samples"), plus what the components leave out of it (as
in ViM, Wang et al. 2022). Held-out images of the same data say which scores are usual.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FILE: Final = "assets.extra/feature_distribution.npz"  # below the SavedModel
#: Principal components, at most; 128 told no other kind of image better than 64.
_COMPONENTS: Final = 64
_FEWEST_TRAIN: Final = 64
MOST: Final = 20_000  # images looked at, spread evenly: 100 MB of features
_FEWEST_HELD_OUT: Final = 50  # below it, nothing says which scores are usual
_LONGEST: Final = 4096  # features of an image; a covariance of longer ones takes 130 MB and more
_SHRINKAGE: Final = 0.1  # of the covariance towards a multiple of the identity
#: Quantile of the held-out scores above which an image is unlike the training data.
_QUANTILE: Final = 0.99
_ROWS: Final = 4096  # in float32 at once
_TINY: Final = 1e-9  # keeps divisions finite

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class FeatureDistribution:
    """Features of unit length as Gaussians, one for each class, with a common covariance.

    Attributes:
        centre: Mean of all training images, float32 [D].
        axes: Principal components, float32 [D, k].
        whitening: Makes the classes' covariance the identity, float32 [k, k].
        means: Whitened mean of each class, float32 [C, k].
        rest: Mean square that the components leave out of a training image.
        threshold: Score above which an image is unlike the training data.
        held_out: Held-out images that the threshold was taken from.
        held_out_above: Those of them with a higher score.
    """

    centre: Floats
    axes: Floats
    whitening: Floats
    means: Floats
    rest: float
    threshold: float = 0.0
    held_out: int = 0
    held_out_above: int = 0

    def scores(self, features: Floats) -> npt.NDArray[np.float64]:
        """Distance of each image [n] from the training data; features are [n, D]."""
        found = [np.empty(0)]
        for start in range(0, len(features), _ROWS):
            rows = _unit(features[start : start + _ROWS]) - self.centre
            inside = rows @ self.axes
            left = np.square(rows).sum(axis=1) - np.square(inside).sum(axis=1)
            white = inside @ self.whitening
            squares = np.square(white).sum(axis=1)[:, None] + np.square(self.means).sum(axis=1)
            nearest = (squares - 2 * white @ self.means.T).min(axis=1)
            found.append(nearest + white.shape[1] * np.maximum(left, 0) / self.rest)
        return np.concatenate(found)

    def above(self, features: Floats) -> int:
        """Number of images that are unlike the training data; features are [n, D]."""
        return int((self.scores(features) > self.threshold).sum())

    def save(self, directory: str) -> None:
        """Write it into an exported SavedModel."""
        import tensorflow as tf

        path = f"{directory.rstrip('/')}/{FILE}"
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        content = io.BytesIO()  # the file system's own files cannot seek
        np.savez(content, **vars(self))
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(content.getvalue())


def load(directory: str) -> FeatureDistribution | None:
    """Read the distribution of an exported model; None where it has none that can be read."""
    import tensorflow as tf

    path = f"{directory.rstrip('/')}/{FILE}"
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = io.BytesIO(file.read())
        with np.load(content, allow_pickle=False) as stored:
            values = {field.name: stored[field.name] for field in fields(FeatureDistribution)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return FeatureDistribution(**{k: v if v.ndim else v.item() for k, v in values.items()})


def fit(
    features: Floats, labels: npt.NDArray[np.integer[Any]], held_out: Floats
) -> FeatureDistribution | None:
    """Describe the features of training images.

    Args:
        features: Of the training images, [n, D], in an order that has nothing to do with classes.
        labels: Their classes, [n].
        held_out: Features of images that were not trained on, [m, D].

    Returns:
        The distribution; None where there are too few images, or the features are too long.
    """
    few = len(features) < _FEWEST_TRAIN or len(held_out) < _FEWEST_HELD_OUT
    if few or not 0 < features.shape[1] <= _LONGEST:
        return None
    step = -(-len(features) // MOST)
    rows, labels = _unit(features[::step]), labels[::step]
    centre = rows.mean(axis=0)
    rows -= centre
    count = min(_COMPONENTS, len(rows) // 2, rows.shape[1])
    axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :count]
    inside = rows @ axes
    classes, indices = np.unique(labels, return_inverse=True)
    means = np.zeros((len(classes), count), np.float32)
    np.add.at(means, indices, inside)
    means /= np.bincount(indices)[:, None]
    spread = inside - means[indices]
    covariance = spread.T @ spread / len(rows)
    covariance += (_SHRINKAGE * np.trace(covariance) / count + _TINY) * np.eye(count)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T.astype(np.float32)
    left = np.square(rows).sum(axis=1) - np.square(inside).sum(axis=1)
    rest = max(float(left.mean()), _TINY)
    described = FeatureDistribution(centre, axes, whitening, means @ whitening, rest)
    scores = described.scores(held_out)
    threshold = float(np.quantile(scores, _QUANTILE))
    above = int((scores > threshold).sum())
    return replace(described, threshold=threshold, held_out=len(scores), held_out_above=above)


def _unit(features: Floats) -> npt.NDArray[np.float32]:
    """A copy in float32, with rows of length 1."""
    rows = np.array(features, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
