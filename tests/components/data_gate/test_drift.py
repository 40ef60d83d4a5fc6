"""Changes of a distribution are reported as drift or skew, and chance differences are not."""

import importlib

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from imgpipe.components.data_gate import drift
from imgpipe.components.data_gate.schema import accepted, revised
from imgpipe.models.finding import said

# TFX, TFDV and ML Metadata warn about their own dependencies, which cannot be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def tfdv():
    importlib.import_module("tfx.components")  # must be imported before TFDV
    return importlib.import_module("tensorflow_data_validation")


@pytest.fixture(scope="module")
def measure(tfdv):
    """Return a function that returns the statistics of a generated split."""
    import pandas as pd

    def make(images=1000, brightness=0.5, cats=0.5, seed=0):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame(
            {
                "brightness": rng.normal(brightness, 0.1, images).astype(np.float32),
                "label": np.where(rng.random(images) < cats, "cat", "dog"),
            }
        )
        return tfdv.generate_statistics_from_dataframe(frame)

    return make


@pytest.fixture(scope="module")
def schema(tfdv, measure):
    return accepted(tfdv.infer_schema(measure()), ("cat", "dog"))


def test_the_accepted_schema_holds_the_limits(schema):
    limits = {feature.name: feature for feature in schema.feature}
    assert limits["label"].drift_comparator.infinity_norm.threshold == 0.2
    brightness = limits["brightness"].skew_comparator.jensen_shannon_divergence
    assert brightness.threshold == 0.3


@pytest.mark.parametrize(
    ("changed", "before", "words"),
    [
        (
            {"brightness": 0.2},
            "drift 'brightness' in train: expected as in the last blessed run: 0.49 ± 0.10, found",
            ("divergence 0.", "at most 0.31", "to accept it, run again with --accept"),
        ),
        ({"cats": 0.9}, "drift 'label' in train", ("found cat", "of 1,000 (a share moved by")),
    ],
)
def test_a_drift_names_both_distributions(measure, schema, changed, before, words):
    (found,) = drift.changes({"train": measure(**changed)}, {"train": measure(seed=1)}, schema)
    assert said(found).startswith(before)
    assert all(word in said(found) for word in words)


@pytest.fixture(scope="module")
def halves(tfdv):
    """Return a function that divides 400 drawn images at random, and statistics of both halves."""
    import pandas as pd

    rng = np.random.default_rng(0)
    images = pd.DataFrame(
        {
            "label": rng.choice(["cat", "dog", "owl"], 400, p=[0.6, 0.3, 0.1]),
            "format": rng.choice(["JPEG", "PNG"], 400, p=[0.9, 0.1]),
            "brightness": rng.normal(0.5, 0.1, 400),
            "sharpness": rng.gamma(2, 0.1, 400),
            "aspect_ratio": np.where(rng.random(400) < 0.7, 1.5, rng.uniform(0.5, 2, 400)),
        }
    )

    def make(seed, **factors):
        order = np.random.default_rng(seed).permutation(400)
        parts = images.iloc[order[:200]], images.iloc[order[200:]].copy()
        for name, factor in factors.items():
            parts[1][name] *= factor
        return [{"train": tfdv.generate_statistics_from_dataframe(part)} for part in parts]

    return make


def test_random_halves_of_the_same_images_are_no_drift_and_shifted_ones_are(tfdv, halves):
    schema = accepted(tfdv.infer_schema(halves(0)[0]["train"]), ("cat", "dog", "owl"))
    alarms = [drift.changes(*halves(seed), schema) for seed in range(20)]
    assert alarms == [[]] * 20
    shifted = [drift.changes(*halves(seed, brightness=0.7), schema) for seed in range(3)]
    assert all("brightness" in reason["title"] for (reason,) in shifted)


def test_few_images_or_no_baseline_give_no_drift(measure, schema):
    few = {"train": measure(90, brightness=0.9)}
    assert drift.changes(few, {"train": measure()}, schema) == []
    assert drift.changes({"train": measure()}, {}, schema) == []


def test_splits_that_differ_are_a_skew(measure, schema):
    now = {"train": measure(), "validation": measure(200, brightness=0.9), "test": measure(seed=3)}
    (found,) = drift.changes(now, {}, schema)
    assert found["title"] == "skew 'brightness' in validation"
    assert "expected as in train: 0.50" in found["sentence"]


def test_drift_limits_edited_in_the_schema_are_used(measure, schema):
    wide = schema_pb2.Schema()
    wide.CopyFrom(schema)
    for feature in wide.feature:
        if feature.name == "brightness":
            feature.drift_comparator.jensen_shannon_divergence.threshold = 1.0
    now, before = {"train": measure(brightness=0.2)}, {"train": measure()}
    assert drift.changes(now, before, wide) == []


def test_a_revised_schema_allows_the_data_and_keeps_the_limits(tfdv, schema):
    import pandas as pd

    edited = schema_pb2.Schema()
    edited.CopyFrom(schema)
    for feature in edited.feature:
        feature.drift_comparator.infinity_norm.threshold = 0.77
    frame = pd.DataFrame({"label": ["cat", "dog", "owl"], "brightness": [0.1, 0.2, 0.3]})
    found = tfdv.generate_statistics_from_dataframe(frame)
    assert set(tfdv.validate_statistics(found, edited).anomaly_info) == {"label"}
    out = revised(edited, [found], ("cat", "dog", "owl"))
    assert not tfdv.validate_statistics(found, out).anomaly_info
    (domain,) = [d for d in out.string_domain if d.name == "label"]
    assert list(domain.value) == ["cat", "dog", "owl"]
    limits = {one.drift_comparator.infinity_norm.threshold for one in out.feature}
    assert limits == {0.77}


SQUARE = [1.0] * 100
MIXED = [1.0] * 50 + [0.75] * 25 + [1.33] * 25
NORMAL = np.random.default_rng(0).normal(1, 0.1, 1000)


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
def test_the_divergence_is_that_of_the_distributions(tfdv, one, other, least, most):
    """The buckets of these distributions have very different widths."""
    import pandas as pd

    schema = schema_pb2.Schema()
    schema.feature.add(name="aspect_ratio", type=schema_pb2.FLOAT)
    schema = drift.with_comparators(schema)
    both = [
        tfdv.generate_statistics_from_dataframe(
            pd.DataFrame({"aspect_ratio": np.array(values, np.float32)})
        )
        for values in (one, other)
    ]
    (found,) = drift.feature_distances("drift", *both, schema, "the reference")
    (other_way,) = drift.feature_distances("drift", *both[::-1], schema, "the reference")
    assert least - 1e-9 <= found["distance"] <= most + 1e-9
    assert other_way["distance"] == pytest.approx(found["distance"])
