"""Tests of what counts as drift and what as chance, in images and in predictions."""

from __future__ import annotations

import collections
import dataclasses
from array import array

import numpy as np
import pytest

from imgpipe.models.features import feature_distribution
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.request_drift import comparison as comparing
from imgpipe.pipeline.request_drift import reference as references
from imgpipe.pipeline.request_drift.images import MeasuredImages, measure
from imgpipe.pipeline.request_drift.log import Location, VersionRequests
from imgpipe.pipeline.request_drift.unfamiliar_images import NONE_LOOKED_AT as NOTHING
from imgpipe.pipeline.request_drift.unfamiliar_images import Share
from tests.pipeline.request_drift.drawn import CLASSES, image, probabilities

# TFX, TFDV and ML Metadata warn about their own dependencies, which this project cannot change.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def reference(pushed):
    """Return the reference of the published version."""
    return references.load(lookup.model(pushed, published=True).intact_versions[1])


@pytest.fixture(scope="module")
def measured():
    """Return a function that measures images of some brightness, each only once."""
    known = {}

    def make(count, brightness=0.5):
        if (count, brightness) not in known:
            found = MeasuredImages()
            measure(((str(i), image(i, brightness)) for i in range(count)), found)
            known[count, brightness] = found.rows
        return known[count, brightness]

    return make


def asked(answers, images=0, labels=None):
    """Return the requests of a version with these answers, float32 [N, C], and some images."""
    labels = labels or [CLASSES[top] for top in answers.argmax(axis=1)]
    confidence = array("f", answers.max(axis=1).tolist())
    places = [Location(0, number, 0) for number in range(images)]
    return VersionRequests(1, collections.Counter(labels), confidence, images, places, 1, 2)


def features(found):
    """Return the names of the features whose distance is over its limit."""
    return {comparison["feature"] for comparison in comparing.exceeded(found)}


@pytest.mark.parametrize("count", [50, 400])
def test_requests_like_the_training_data_are_no_drift(reference, measured, count):
    for seed in range(3):
        said = probabilities(count, seed=seed)
        found = comparing.compare(asked(said, count), measured(count), reference, NOTHING)
        assert features(found) == set() and comparing.is_judged(found)
    drift, verdict = comparing.verdict([found], images=True)
    assert drift is False
    assert verdict.startswith(f"no drift: {count} answers of version 1, none of ")


def test_darker_images_are_drift_with_both_distributions(reference, measured):
    said = probabilities(100, seed=1)
    found = comparing.compare(asked(said, 100), measured(100, 0.2), reference, NOTHING)
    assert "brightness" in features(found) and "label" not in features(found)
    (dark,) = [row for row in comparing.exceeded(found) if row["feature"] == "brightness"]
    assert (dark["subject"], dark["reference"]) == ("images", "training data")
    assert dark["was"].startswith("0.5") and dark["now"].startswith("0.2")
    assert dark["distance"] > 0.9
    drift, verdict = comparing.verdict([found], images=True)
    assert drift is True and verdict.startswith(
        "drift: version 1 receives requests unlike its training"
    )
    assert "brightness (0.5" in verdict


def test_image_sizes_are_shown_but_are_never_drift(reference, measured):
    found = comparing.compare(asked(probabilities(60), 60), measured(60), reference, NOTHING)
    shown = {row["feature"] for row in found["comparisons"] if row["limit"] is None}
    assert shown == {"width", "height", "byte_size"}


def test_other_labels_and_less_confidence_are_drift_without_any_image(reference):
    one_sided = probabilities(300, seed=2)[:, [2, 2, 2]] * 0 + np.float32([0.9, 0.06, 0.04])
    found = comparing.compare(asked(one_sided), [], reference, NOTHING)
    assert features(found) == {"label", "confidence"}
    unsure = probabilities(300, seed=2, sharpness=0.3)
    found = comparing.compare(asked(unsure), [], reference, NOTHING)
    assert "confidence" in features(found) and "label" not in features(found)
    assert "the log holds no images of it" in found["notes"][0]
    assert comparing.verdict([found], images=False)[0] is True


def test_unknown_is_compared_as_a_label_and_its_share_is_reported(reference):
    said = probabilities(200, seed=5)
    labels = ["unknown"] * 150 + ["cat"] * 50
    found = comparing.compare(asked(said, labels=labels), [], reference, NOTHING)
    assert "label" in features(found)
    assert found["unknown"] == 0.75 and found["unknown_on_validation"] == 0.0


def test_too_few_answers_are_not_judged(reference, measured):
    found = comparing.compare(asked(probabilities(49), 49), measured(49, 0.1), reference, NOTHING)
    assert not found["comparisons"] and not comparing.is_judged(found)
    assert found["notes"][0] == "49 answers are too few to compare: 50 are needed"
    assert comparing.verdict([found], images=True) == (
        None,
        "not compared: 49 answers in the log, 50 of a version are needed",
    )
    judged = comparing.compare(asked(probabilities(400)), [], reference, NOTHING)
    _, verdict = comparing.verdict([judged, found], images=True)
    assert verdict.startswith("no drift: 400 answers of version 1, none of ")


def test_predictions_are_judged_even_if_different_images_are_too_few(reference, measured):
    found = comparing.compare(asked(probabilities(80), 10), measured(10), reference, NOTHING)
    assert {row["subject"] for row in found["comparisons"]} == {"predictions"}
    assert "10 different images are too few to compare: 50 are needed" in found["notes"]


def test_labels_are_compared_with_the_data_if_there_are_no_predictions(reference):
    alone = dataclasses.replace(reference, predictions=None, missing="no run beside the model")
    found = comparing.compare(asked(probabilities(100)), [], alone, NOTHING)
    (label,) = found["comparisons"]
    assert (label["feature"], label["reference"]) == ("label", "labels of validation")
    assert "no run beside the model: confidence was not compared" in found["notes"]


def test_a_share_of_images_with_unusual_features_is_drift(reference, measured):
    """A smaller version of 181 images of hands among 1,969 images for a model of flowers."""
    rows = np.random.default_rng(0).normal(size=(400, 40))
    known = feature_distribution.fit(rows[:300], np.zeros(300, int), rows[300:])
    beside = dataclasses.replace(reference, features=known)
    answers = asked(probabilities(200), 200)
    one = comparing.compare(answers, measured(200), beside, Share(3, 200))
    assert features(one) == set()
    one = comparing.compare(answers, measured(200), beside, Share(18, 200))
    assert features(one) == {"features unlike the training data"}
    (found,) = comparing.exceeded(one)
    assert (found["was"], found["now"]) == ("0.010 of 100", "0.090 of 200")
    drift, verdict = comparing.verdict([one], images=True)
    assert drift and "features unlike the training data (0.010 of 100 → 0.090 of 200)" in verdict


def test_a_few_images_far_from_the_training_data_are_drift(reference, measured):
    """A share of 4 % says little with few held-out images; the distance of the images says more."""
    rows = np.random.default_rng(0).normal(size=(400, 40))
    known = feature_distribution.fit(rows[:300], np.zeros(300, int), rows[300:])
    beside = dataclasses.replace(reference, features=known)
    answers, above = asked(probabilities(200), 200), Share(8, 200)
    one = comparing.compare(answers, measured(200), beside, above, Share(4, 200))
    assert features(one) == set()
    one = comparing.compare(answers, measured(200), beside, above, Share(8, 200))
    assert features(one) == {"features far from the training data"}
    (found,) = comparing.exceeded(one)
    assert (found["was"], found["now"]) == ("0.001 expected", "0.040 of 200")
    one = comparing.compare(answers, measured(200), reference, above, Share(8, 200))
    assert features(one) == set(), "a model without a distribution of features"


def test_a_model_without_a_distribution_of_features_gets_a_note(reference, measured):
    one = comparing.compare(asked(probabilities(60), 60), measured(60), reference, NOTHING)
    assert any("no feature distribution is stored" in note for note in one["notes"])


def test_a_share_of_answers_with_low_confidence_is_drift(reference):
    unsure = np.full((30, 3), 1 / 3, np.float32)
    said = np.concatenate([probabilities(270, seed=1), unsure])
    one = comparing.compare(asked(said), [], reference, NOTHING)
    (low,) = [row for row in one["comparisons"] if row["feature"].startswith("confidence under")]
    assert low["over"]
    assert (low["subject"], low["reference"]) == ("predictions", "validation")


def test_a_confidence_just_below_one_is_not_rounded_up(reference):
    sure = references.Predictions(["cat"] * 50, np.full(50, 0.9996, np.float32))
    saturated = dataclasses.replace(reference, predictions=sure)
    one = comparing.compare(asked(probabilities(270, seed=1)), [], saturated, NOTHING)
    assert "confidence under 0.9996" in features(one)
