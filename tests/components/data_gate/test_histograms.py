"""Distributions whose histograms have buckets of very different widths are compared.

A distribution far finer than the buckets of the other is compared in those buckets.
"""

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
        before = seen.SerializeToString()
        (found,) = drift.feature_distances("drift", seen, reference, schema)
        assert seen.SerializeToString() == before, "the statistics are only read"
        return found.distance

    return make


def test_one_image_that_is_not_square_among_many_is_no_drift(divergence):
    # TFDV alone returns 1, as if the distributions had nothing in common.
    assert divergence([*SQUARE, 1.3], SQUARE) < 0.01
    assert divergence(SQUARE, [*SQUARE, 1.3]) < 0.01
    assert divergence([*SQUARE, 1.001], [*SQUARE, 1.3]) < 0.01


def test_all_images_square_instead_of_half_diverge_by_0_311(divergence):
    # One half of the mixed distribution equals the square one: 0.311 bits.
    assert divergence(SQUARE, MIXED) == pytest.approx(0.311, abs=0.001)
    assert divergence(MIXED, SQUARE) == pytest.approx(0.311, abs=0.001)


def test_different_constants_have_the_greatest_divergence(divergence):
    assert divergence(SQUARE, [2.0] * 100) == pytest.approx(1)
    assert divergence([1.5] * 100, MIXED) == pytest.approx(1)
    assert divergence(SQUARE, SQUARE) == pytest.approx(0)


def test_distributions_of_similar_widths_are_compared_directly(divergence):
    random = np.random.default_rng(0)
    one, other = random.normal(1, 0.1, 1000), random.normal(1.3, 0.1, 1000)
    assert divergence(one, other) > 0.6
    assert divergence(one, random.normal(1, 0.1, 1000)) < 0.02
    assert 0.4 < divergence(random.normal(1, 0.004, 1000), one) < 0.8
