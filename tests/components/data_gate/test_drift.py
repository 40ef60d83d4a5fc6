"""Changes of a distribution are reported as drift or skew, and chance differences are not."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from imgpipe.components.data_gate import drift
from imgpipe.components.data_gate.schema import accepted, revised

# TFX, TFDV and ML Metadata warn about their own dependencies, which cannot be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def tfdv():
    """Return TensorFlow Data Validation, which is imported only when a test needs it."""
    importlib.import_module("tfx.components")  # must be imported before TFDV
    return importlib.import_module("tensorflow_data_validation")


@pytest.fixture(scope="module")
def measure(tfdv):
    """Return a function that returns the statistics of a generated split.

    Its arguments are the number of images, their mean brightness (0..1), the share of the class cat
    and the seed.
    """
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
    """Return the schema that is accepted for the default split of `measure`."""
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
            ("divergence 0.7", "at most 0.31", "to accept it, run again with --accept"),
        ),
        ({"cats": 0.9}, "drift 'label' in train", ("found cat 0.9", "a share moved by 0.4")),
    ],
)
def test_a_drift_names_both_distributions(measure, schema, changed, before, words):
    (found,) = drift.changes({"train": measure(**changed)}, {"train": measure(seed=1)}, schema)
    assert found.sentence().startswith(before)
    assert all(word in found.sentence() for word in words)


@pytest.mark.parametrize("images", [100, 1000])
def test_chance_differences_are_no_drift(measure, schema, images):
    for seed in range(1, 8):
        now, before = {"train": measure(images, seed=seed)}, {"train": measure(seed=9)}
        assert drift.changes(now, before, schema) == []


def test_few_images_or_no_baseline_give_no_drift(measure, schema):
    few = {"train": measure(90, brightness=0.9)}
    assert drift.changes(few, {"train": measure()}, schema) == []
    assert drift.changes({"train": measure()}, {}, schema) == []


def test_splits_that_differ_are_a_skew(measure, schema):
    now = {"train": measure(), "validation": measure(200, brightness=0.9), "test": measure(seed=3)}
    (found,) = drift.changes(now, {}, schema)
    assert (found.kind, found.split, found.subject) == ("skew", "validation", "brightness")
    assert found.expected.startswith("as in train: 0.50")


def test_drift_limits_edited_in_the_schema_are_used(measure, schema):
    wide = schema_pb2.Schema()
    wide.CopyFrom(schema)
    for feature in wide.feature:
        if feature.name == "brightness":
            feature.drift_comparator.jensen_shannon_divergence.threshold = 1.0
    now, before = {"train": measure(brightness=0.2)}, {"train": measure()}
    assert drift.changes(now, before, wide) == []


def test_a_revised_schema_changes_the_refused_features_alone(tfdv, schema):
    import pandas as pd

    edited = schema_pb2.Schema()
    edited.CopyFrom(schema)
    for feature in edited.feature:
        feature.drift_comparator.infinity_norm.threshold = 0.77
    frame = pd.DataFrame({"label": ["cat", "dog", "owl"], "brightness": ["a", "b", "c"]})
    other = tfdv.infer_schema(tfdv.generate_statistics_from_dataframe(frame))
    out = revised(edited, other, {"label"}, ("cat", "dog", "owl"))
    kinds = {feature.name: feature.type for feature in out.feature}
    assert kinds["brightness"] == schema_pb2.FLOAT
    (domain,) = [d for d in out.string_domain if d.name == "label"]
    assert list(domain.value) == ["cat", "dog", "owl"]
    (label,) = [feature for feature in out.feature if feature.name == "label"]
    assert label.drift_comparator.infinity_norm.threshold == 0.77
