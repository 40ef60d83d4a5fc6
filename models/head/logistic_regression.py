"""Multinomial logistic regression on stored features, solved with L-BFGS.

The minimiser is SciPy's. scikit-learn's logistic regression is not used, because it has no label
smoothing, and needs all features in memory as float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from imgpipe.models.arrays import Array, Floats, Integers
from imgpipe.models.errors import DataRefused
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.rows import blocks, mapped
from imgpipe.models.machine.process import one_blas_thread

ROWS_AT_ONCE: Final = 8192
_TABLE: Final = 32 << 20  # bytes of a table of rows and classes; the loss needs five at a time
_NEVER_VARIES: Final = 1e-6  # a feature with a lower standard deviation is not scaled
#: Rows for which the scale of all features together counts in that of each feature. Of 9 cats and 9
#: dogs, left out one by one, the nearer of the two means is right for 0.94 without a scale of each
#: feature, and for 0.78 with one. With 1,000 rows these count for 3 %.
_ROWS_OF_ALL: Final = 30
#: Smallest unit of a feature as a multiple of the median of its block. Of thousands of features,
#: some hardly vary in the training images. In units of their own deviation, one that a new image
#: excites has a value of thousands and decides alone; see docs/benchmarks.md, "The head".
_LEAST_UNIT: Final = 1.0
_MOST_ITERATIONS: Final = 500
_CURVATURE: Final = 0.25  # the second derivative of the loss of an image by a logit, at most


@dataclass(frozen=True)
class Linear:
    """A linear classifier: logits are features [n, D] @ kernel + bias."""

    kernel: Floats  # weights of the features, [D, C]
    bias: Floats  # of each class, [C]

    def log_probabilities(self, features: Array) -> Floats:
        """Return the logarithms of the probabilities, [n, C], for features [n, D]."""
        logits: Floats = features.astype(np.float32, copy=False) @ self.kernel + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits

    def in_blocks(self, features: Array) -> Iterator[tuple[slice, Floats]]:
        """Yield the slice of row numbers and the logarithms [m, C] of blocks of features [n, D]."""
        for part, block in blocks(features, _rows_at_once(len(self.bias))):
            yield part, self.log_probabilities(block)


@dataclass(frozen=True)
class Scaling:
    """Offset and unit of each feature, so that the scale of a feature does not matter.

    Attributes:
        mean: Mean of each feature, float64 [D].
        scale: Unit of each feature, float64 [D]: its standard deviation times the square root of
            the number of features in its block. So each block has about the same weight, whether
            it has many features or few. No unit is smaller than the median of its block, and the
            unit of a constant feature is 1.
    """

    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, rows: BankRows) -> Scaling:
        """Return the scaling for the features of the rows that a head learns from.

        Few rows estimate a standard deviation badly. Therefore it is weighted with the geometric
        mean of those of its block, which counts as `_ROWS_OF_ALL` rows. A DataRefused says that a
        feature is not finite.
        """
        features = rows.features
        count = len(features)
        mean = sum(block.sum(axis=0, dtype=np.float64) for block in _float_blocks(features)) / count
        if not np.isfinite(mean).all():
            raise DataRefused(
                "the stored features are not finite, so that no head fits them. Check the weights "
                "of the backbone (model.weights), and run FeatureBank again (--from FeatureBank)"
            )
        # A second pass, since the mean of the squares minus the square of the mean loses digits.
        differences = (block - mean.astype(np.float32) for block in _float_blocks(features))
        squares = sum(np.einsum("nd,nd->d", each, each).astype(float) for each in differences)
        deviation = np.sqrt(squares / count)
        varies = deviation > _NEVER_VARIES
        logs = np.log(deviation, where=varies, out=np.zeros(len(deviation)))
        scale = np.ones(len(deviation))
        for part in np.split(np.arange(len(deviation)), np.cumsum(rows.sizes)[:-1]):
            part = part[varies[part]]
            weighted = count * logs[part] + _ROWS_OF_ALL * (logs[part].mean() if len(part) else 0)
            units = np.exp(weighted / (count + _ROWS_OF_ALL)) * np.sqrt(len(part))
            least = _LEAST_UNIT * float(np.median(units)) if len(part) else 0.0
            scale[part] = np.maximum(units, least)
        return cls(mean, scale)

    @classmethod
    def none(cls, columns: int) -> Scaling:
        """Return the scaling of features that are scaled already."""
        return cls(np.zeros(columns), np.ones(columns))

    def scaled(self, features: Array) -> Floats:
        """Return scaled features, float32 [n, D]."""
        scaled: Floats = features - self.mean.astype(np.float32)
        scaled /= self.scale.astype(np.float32)
        return scaled

    def unscaled(self, kernel: Array, bias: Array) -> Linear:
        """Convert a classifier of scaled features to one of stored features."""
        kernel = kernel / self.scale[:, None]
        return Linear(kernel.astype(np.float32), (bias - self.mean @ kernel).astype(np.float32))


class LogisticRegression:
    """The loss of a linear classifier on some rows, at least one, and the search for its minimum.

    The penalty acts on the weights of scaled features; `scaling` is None if the features are scaled
    already. The loss is a sum over rows, not a mean. Therefore one penalty suits few and many rows.

    `smoothing` is the share of each target that is spread over all classes, 0..1, `balance` is that
    of `class_weights`, and a search ends where the loss decreases by less than `tolerance`,
    relatively.
    """

    def __init__(
        self,
        rows: BankRows,
        classes: int,
        scaling: Scaling | None = None,
        smoothing: float = 0.0,
        balance: str = "none",
        tolerance: float = 1e-8,
    ) -> None:
        self._tolerance = tolerance
        self._features = rows.features
        if not mapped(self._features):  # few rows, which are converted only once
            self._features = self._features.astype(np.float32, copy=False)
        self._labels = rows.labels
        self._classes = classes
        self._smoothing = smoothing
        self._weights = class_weights(rows.labels, classes, balance)
        columns = self._features.shape[1]
        self._scaling = scaling or Scaling.none(columns)
        mean = self._scaling.mean
        scale = self._scaling.scale
        #: Mean square of each scaled feature. With few rows the features are rotated so that they
        #: are not correlated, and these are then the curvature of the loss, up to a factor.
        self._squares = sum(
            np.square((block - mean) / scale).sum(axis=0) for block in _float_blocks(self._features)
        )
        self._solution = np.zeros((columns + 1, classes))  # kernel of scaled features, then bias

    def minimise(self, penalty: float) -> Linear:
        """Find the classifier with the lowest loss, starting from the result of the previous call.

        The penalty is a factor of half the sum of the squared weights of scaled features.
        """
        from scipy.optimize import minimize

        # In units in which the loss is about equally curved in all directions, fewer steps suffice.
        curvature = _CURVATURE * self._squares + penalty
        units = np.append(np.sqrt(curvature), np.sqrt(_CURVATURE * len(self._labels)))[:, None]

        def loss(flat: Floats) -> tuple[float, Floats]:
            solution = flat.reshape(self._solution.shape) / units
            value, gradient = self._loss(self._scaling.unscaled(solution[:-1], solution[-1]))
            gradient[:-1] += penalty * solution[:-1]
            value += penalty / 2 * float(np.square(solution[:-1]).sum())
            return value, (gradient / units).ravel()

        # The loss is a sum over rows, and so is its gradient, whose limit grows with them.
        steepest = 1e-7 * len(self._labels)
        options = {"maxiter": _MOST_ITERATIONS, "ftol": self._tolerance, "gtol": steepest}
        with one_blas_thread():  # two threads are hardly faster
            start = (self._solution * units).ravel()
            result = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        self._solution = result.x.reshape(self._solution.shape) / units
        return self._scaling.unscaled(self._solution[:-1], self._solution[-1])

    def _loss(self, linear: Linear) -> tuple[float, Floats]:
        """Return the loss without the penalty, and its gradient by scaled kernel and bias."""
        value = 0.0
        by_kernel = np.zeros_like(linear.kernel)
        by_bias = np.zeros_like(linear.bias)
        for part, block in blocks(self._features, _rows_at_once(self._classes)):
            block = block.astype(np.float32, copy=False)
            labels = self._labels[part]
            weights = self._weights[labels]
            log_probabilities = linear.log_probabilities(block)
            targets = np.full_like(log_probabilities, self._smoothing / self._classes)
            targets[np.arange(len(labels)), labels] += 1 - self._smoothing
            losses = -(targets * log_probabilities).sum(axis=1)
            value += float((weights * losses).sum(dtype=np.float64))
            # The derivative of the cross-entropy by the logits is probabilities minus targets.
            error = weights[:, None] * (np.exp(log_probabilities) - targets)
            by_kernel += block.T @ error.astype(np.float32, copy=False)
            by_bias += error.sum(axis=0)
        # By the chain rule for scaled features, (features - mean) / scale, which are never
        # computed: they would need a copy of all features.
        scaling = self._scaling
        scaled = (by_kernel - np.outer(scaling.mean, by_bias)) / scaling.scale[:, None]
        return value, np.vstack([scaled, by_bias])


def _float_blocks(features: Array) -> Iterator[Floats]:
    for _, block in blocks(features, ROWS_AT_ONCE):
        yield block.astype(np.float32, copy=False)


def class_weights(labels: Integers, classes: int, balance: str) -> Floats:
    """Return the weight of each class in the loss, float32 [classes].

    Args:
        labels: Label indices of the training rows, int64 [n].
        classes: Number of classes.
        balance: With "class_weights", the weight is n / (number of classes that occur x rows of the
            class), so that all classes contribute equally. Otherwise all weights are 1.
    """
    if balance != "class_weights":
        return np.ones(classes, np.float32)
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    # The weight of a class without rows is never used; the maximum avoids a division by 0.
    return (len(labels) / (present * np.maximum(counts, 1))).astype(np.float32)


def _rows_at_once(classes: int) -> int:
    """Return the number of rows in a block, which is smaller with thousands of classes."""
    return min(ROWS_AT_ONCE, max(1, _TABLE // (4 * classes)))
