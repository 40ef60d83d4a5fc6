"""Ridge regression for many penalties, on features in their principal axes.

One factorisation serves all classes, so that 500 of them cost hardly more than ten, whereas each
step of a logistic regression takes 50 times as long. With few images of each class it is more
accurate, too: all classes together tell which differences of features are those between images of
one class. Its scores, times a constant, serve as logits.

SciPy solves the equations. scikit-learn's ridge regression is not used, because it needs all
features in memory as float64.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from imgpipe.models.arrays import Floats
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.rows import blocks
from imgpipe.models.head.logistic_regression import ROWS_AT_ONCE, Linear, Scaling, class_weights
from imgpipe.models.machine.process import one_blas_thread

_FLAT: Final = 1e-7  # share of the largest variance below which an axis is left out
#: Most rows or features, whichever are fewer, of a head in closed form. Two square matrices of
#: float32 with a row for each of them are in memory: 650 MB. Covariances with the mean of the last
#: map are 7,520 features, with 2,048 channels in this map 8,288.
WIDEST: Final = 9_000
#: Logits are scores times this number and the fifth root of the number of classes. With these, the
#: most probable temperature is near 1 for two classes and for hundreds; see docs/benchmarks.md,
#: "The head".
_SHARPNESS: Final = 10.0


class Axes(NamedTuple):
    """Principal axes of some rows: orthonormal columns, [D, r], the product of some matrices.

    It is never computed: of few rows with many features, that takes as long as to find the axes.
    """

    factors: tuple[Floats, ...]

    @classmethod
    def fit(cls, values: Floats) -> tuple[Axes, Floats]:
        """Return the axes in which rows [n, D] vary, and their coordinates, [n, r]."""
        from scipy import linalg

        few = len(values) < values.shape[1]  # then the products of the rows give the same axes
        with one_blas_thread():
            products = values @ values.T if few else values.T @ values
            squares, vectors = linalg.eigh(
                products, overwrite_a=True, check_finite=False, driver="evd"
            )
            varying = squares > _FLAT * squares[-1]
            lengths = np.sqrt(squares[varying])
            vectors = vectors[:, varying]
            if few:
                axes = cls((values.T, vectors / lengths))
                turned = vectors * lengths
            else:
                axes = cls((vectors,))
                turned = values @ vectors
        return axes, np.ascontiguousarray(turned, np.float32)

    def coordinates(self, values: Floats) -> Floats:
        """Return the coordinates, [m, r], of rows [m, D]."""
        return functools.reduce(np.matmul, self.factors, values)

    def weights(self, kernel: Floats) -> Floats:
        """Return the weights of features, float64 [D, C], for weights of coordinates, [r, C]."""
        for factor in reversed(self.factors):
            kernel = factor @ kernel.astype(np.float64)
        return kernel


class Rotation(NamedTuple):
    """Scaled features, turned to their principal axes.

    Logistic regression on few rows is solved in these coordinates. There are no more of them than
    rows, and nothing is lost: the weights of a head with a penalty are sums of rows.
    """

    scaling: Scaling
    axes: Axes

    @classmethod
    def fit(cls, rows: BankRows) -> tuple[Rotation, BankRows]:
        """Return the principal axes of all rows, and the rows with coordinates as features."""
        scaling = Scaling.fit(rows)
        axes, turned = Axes.fit(scaling.scaled(rows.features))
        return cls(scaling, axes), replace(rows, features=turned, sizes=())

    def turned(self, rows: BankRows) -> BankRows:
        """Return other rows with coordinates as features."""
        coordinates = self.axes.coordinates(self.scaling.scaled(rows.features))
        return replace(rows, features=coordinates, sizes=())

    def for_stored_features(self, linear: Linear) -> Linear:
        """Convert a classifier of coordinates to one of stored features."""
        return self.scaling.unscaled(self.axes.weights(linear.kernel), linear.bias)


class RidgeRegression:
    """The squared error of a linear classifier on some rows, and its minimum.

    As in `LogisticRegression`, which has the same arguments, the penalty acts on the weights of
    scaled features, and the error is a sum over rows. The bias has no penalty.
    """

    def __init__(
        self,
        rows: BankRows,
        classes: int,
        scaling: Scaling | None = None,
        smoothing: float = 0.0,
        balance: str = "none",
    ) -> None:
        self._rows = rows
        self._classes = classes
        self._scaling = scaling or Scaling.none(rows.features.shape[1])
        self._smoothing = smoothing
        weights = class_weights(rows.labels, classes, balance)[rows.labels]
        self._roots = np.sqrt(weights)[:, None]  # of the weight of each row
        shares = np.bincount(rows.labels, weights, classes)
        self._mean_target = (1 - smoothing) * shares / shares.sum() + smoothing / classes
        with one_blas_thread():
            sums = sum(
                (weights[part] @ block).astype(np.float64) for part, block in self._scaled_blocks()
            )
            self._mean = sums / shares.sum()
            #: With few rows, the weights are sums of these rows, and their factors the unknowns.
            self._few_rows: Floats | None = None
            if len(rows) < len(self._mean):
                self._few_rows = np.concatenate([block for _, block in self._centred_blocks()])
            self._products, self._right_side = self._equations()

    def minimise(self, penalty: float) -> Linear:
        """Return the classifier with the lowest squared error.

        The penalty is a factor of half the sum of the squared weights of scaled features.
        """
        from scipy import linalg

        products = self._products.copy()
        products[np.diag_indices_from(products)] += penalty
        with one_blas_thread():
            factor = linalg.cho_factor(products, overwrite_a=True, check_finite=False)
            kernel = linalg.cho_solve(factor, self._right_side, check_finite=False)
            if self._few_rows is not None:
                kernel = self._few_rows.T @ kernel
            bias = self._mean_target - self._mean @ kernel
        sharpness = _SHARPNESS * self._classes**0.2
        return self._scaling.unscaled(sharpness * kernel, sharpness * bias)

    def _equations(self) -> tuple[Floats, Floats]:
        """Return the products of the features, [D, D], and of features and targets, [D, C].

        Of few rows, these are the products of the rows, [n, n], and their targets, [n, C].
        """
        if self._few_rows is not None:
            return self._few_rows @ self._few_rows.T, self._targets(slice(None))
        width = len(self._mean)
        products = np.zeros((width, width), np.float32)
        moments = np.zeros((width, self._classes), np.float32)
        for part, block in self._centred_blocks():
            products += block.T @ block
            moments += block.T @ self._targets(part)
        return products, moments

    def _targets(self, part: slice) -> Floats:
        """Return the targets of some rows minus their mean, times the roots of their weights."""
        labels = self._rows.labels[part]
        targets = np.tile(self._smoothing / self._classes - self._mean_target, (len(labels), 1))
        targets[np.arange(len(labels)), labels] += 1 - self._smoothing
        return np.asarray(targets * self._roots[part], np.float32)

    def _centred_blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Yield blocks of scaled rows minus their mean, times the roots of their weights."""
        mean = self._mean.astype(np.float32)
        for part, block in self._scaled_blocks():
            yield part, (block - mean) * self._roots[part]

    def _scaled_blocks(self) -> Iterator[tuple[slice, Floats]]:
        for part, block in blocks(self._rows.features, ROWS_AT_ONCE):
            yield part, self._scaling.scaled(block)
