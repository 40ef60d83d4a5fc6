"""Distributions whose histograms have buckets of very different widths are compared."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from imgpipe.components.data_gate import drift

# TFX, TFDV and ML Metadata warn about their own dependencies, which cannot be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

SQUARE = [1.0] * 100
MIXED = [1.0] * 50 + [0.75] * 25 + [1.33] * 25
NORMAL = np.random.default_rng(0).normal(1, 0.1, 1000)


@pytest.fixture(scope="module")
def divergence():
    """Return a function (values, values) → Jensen-Shannon divergence of the two in bits."""
    importlib.import_module("tfx.components")  # must be imported before TFDV
    tfdv = importlib.import_module("tensorflow_data_validation")
    import pandas as pd

    schema = schema_pb2.Schema()
    schema.feature.add(name="aspect_ratio", type=schema_pb2.FLOAT)
    schema = drift.with_comparators(schema)

    def make(*both):
        frames = [pd.DataFrame({"aspect_ratio": np.array(v, np.float32)}) for v in both]
        seen, reference = (tfdv.generate_statistics_from_dataframe(frame) for frame in frames)
        (found,) = drift.feature_distances("drift", seen, reference, schema, "the reference")
        return found["distance"]

    return make


@pytest.mark.parametrize(
    ("one", "other", "least", "most"),
    [
        # One image that is not square among many is no drift, for which TFDV alone returns 1.
        ([*SQUARE, 1.3], SQUARE, 0, 0.01),
        ([*SQUARE, 1.001], [*SQUARE, 1.3], 0, 0.01),
        (SQUARE, SQUARE, 0, 0),
        # One half of the mixed distribution equals the square one: 0.311 bits, between deciles.
        (SQUARE, MIXED, 0.31, 0.39),
        (SQUARE, [2.0] * 100, 0.999, 1),
        ([1.5] * 100, MIXED, 0.999, 1),
        (NORMAL, NORMAL + 0.3, 0.6, 1),
        (NORMAL, np.random.default_rng(1).normal(1, 0.1, 1000), 0, 0.02),
        (np.random.default_rng(1).normal(1, 0.004, 1000), NORMAL, 0.4, 0.8),
    ],
)
def test_the_divergence_is_that_of_the_distributions(divergence, one, other, least, most):
    assert least - 1e-9 <= divergence(one, other) <= most + 1e-9
    assert divergence(other, one) == pytest.approx(divergence(one, other))
