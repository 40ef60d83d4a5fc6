"""Principal axes of rows of features, in whose coordinates heads of these rows are solved."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from imgpipe.models.features.bank import BankRows
from imgpipe.models.head.logistic_regression import Linear, Scaling
from imgpipe.models.machine.process import one_blas_thread
from imgpipe.models.names.arrays import Floats

_FLAT: Final = 1e-7  # share of the largest variance below which an axis is left out


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
