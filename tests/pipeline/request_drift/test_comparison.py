"""Tests of what counts as drift and what as chance, in images and in predictions."""

import dataclasses
import shutil

import numpy as np
import pytest

from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.example_gen.sources import Item
from imgpipe.components.model_pusher import versions
from imgpipe.models.features import feature_distribution
from imgpipe.pipeline.commands import rollback
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.request_drift import comparison as comparing
from imgpipe.pipeline.request_drift.logged_answers import LoggedAnswer, LoggedAnswers
from imgpipe.pipeline.request_drift.requests import MeasuredImages, measure
from tests.pipeline.request_drift.drawn import CLASSES, image, probabilities, write_log

# TFX, TFDV and ML Metadata warn about their own dependencies, which this project cannot change.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def reference(pushed):
    return comparing.load(lookup.model(pushed, published=True).published)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return a function that measures images of some brightness, each only once."""
    known = {}

    def make(count, brightness=0.5, scores=()):
        if (count, brightness) not in known:
            prefix = tmp_path_factory.mktemp("measured") / "r"
            sent = [image(number, brightness) for number in range(count)]
            write_log(prefix, probabilities(count), sent)
            source = LoggedAnswers(prefix)
            known[count, brightness] = measure(
                source, [answer.item for answer in source.answers(Notes())], prefix, None
            )
        return dataclasses.replace(known[count, brightness], scores=list(scores))

    return make


def asked(answers, images=0, labels=None):
    """Return the requests of a version with these answers, float32 [N, C], and some images."""
    labels = labels or [CLASSES[top] for top in answers.argmax(axis=1)]
    items = [Item("a.jpg", "")] * images + [None] * (len(labels) - images)
    rows = zip(labels, answers.max(axis=1), items, strict=True)
    return [LoggedAnswer(1, 0, label, best, len(CLASSES), item) for label, best, item in rows]


def compare(requests, images, reference):
    """Return the comparisons that are over their limit by their property, and the findings."""
    distances, findings = comparing.compare(requests, images, reference)
    over = {row["feature"]: row for row in distances if row["over"]}
    return over, [finding["sentence"] for finding in findings]


@pytest.mark.parametrize("count", [50, 400])
def test_requests_like_the_training_data_are_no_drift(reference, measured, count):
    for seed in range(3):
        requests = asked(probabilities(count, seed=seed), count)
        distances, _ = comparing.compare(requests, measured(count), reference)
        assert len(distances) == 11 and not any(row["over"] for row in distances)


def test_the_sizes_of_images_are_compared_where_the_schema_limits_them(reference, measured):
    requests = asked(probabilities(60), 60)
    distances, _ = comparing.compare(requests, measured(60), reference)
    assert not {row["feature"] for row in distances} & {"width", "height", "byte_size"}
    (byte_size,) = [row for row in reference.limits.feature if row.name == "byte_size"]
    byte_size.drift_comparator.jensen_shannon_divergence.threshold = 0.2
    distances, _ = comparing.compare(requests, measured(60), reference)
    byte_size.ClearField("drift_comparator")
    assert "byte_size" in {row["feature"] for row in distances}


def test_other_labels_and_less_confidence_are_drift_without_any_image(reference):
    one_sided = probabilities(300, seed=2)[:, [2, 2, 2]] * 0 + np.float32([0.9, 0.06, 0.04])
    over, _ = compare(asked(one_sided), MeasuredImages(), reference)
    assert over.keys() == {"label", "confidence"}
    assert over["label"]["now"] == "cat 300 of 300"
    unsure = probabilities(300, seed=2, sharpness=0.3)
    over, sentences = compare(asked(unsure), MeasuredImages(), reference)
    assert "confidence" in over and "label" not in over
    assert "the log holds no images of this version" in sentences[0]


def test_too_few_answers_are_not_judged(reference):
    requests = asked(probabilities(49), 49)
    distances, findings = comparing.compare(requests, MeasuredImages(), reference)
    assert distances == []
    assert [finding["sentence"] for finding in findings] == [
        "49 answers are too few to compare: 50 are needed",
        "0 different images that can be decoded are too few to compare: 50 are needed",
    ]


def test_answers_are_judged_even_if_different_images_are_too_few(reference, measured):
    requests = asked(probabilities(80), 10)
    distances, _ = comparing.compare(requests, measured(10), reference)
    assert {row["reference"] for row in distances} == {"the validation images"}


def test_a_version_without_its_answers_gets_a_note(reference):
    alone = dataclasses.replace(reference, labels=[], confidence=np.empty(0))
    distances, findings = comparing.compare(asked(probabilities(100)), MeasuredImages(), alone)
    assert distances == []
    assert "answers of this version to the validation images" in findings[0]["sentence"]


@pytest.mark.parametrize(
    ("limit", "feature", "few", "many", "was"),
    [
        # A smaller version of 181 images of hands among 1,969 images for a model of flowers.
        ("threshold", "features unlike the training data", 3, 18, "1 of 100"),
        # A share of 4 % says little with few held-out images; their distance says more.
        ("far", "features far from the training data", 4, 8, "1 of 1,000"),
    ],
)
def test_a_share_of_images_with_unusual_features_is_drift(
    reference, measured, limit, feature, few, many, was
):
    rows = np.random.default_rng(0).normal(size=(400, 40))
    features = feature_distribution.fit(rows[:300], np.zeros(300, int), rows[300:])
    known = dataclasses.replace(reference, features=features)
    usual, unusual = features.threshold / 2, getattr(features, limit) * 1.01
    requests = asked(probabilities(200), 200)
    for count, expected in ((few, []), (many, [(feature, was, f"{many} of 200")])):
        scores = [unusual] * count + [usual] * (200 - count)
        over, _ = compare(requests, measured(200, scores=scores), known)
        assert [(row["feature"], row["was"], row["now"]) for row in over.values()] == expected


def test_a_model_without_a_distribution_of_features_gets_a_note(reference, measured):
    _, sentences = compare(asked(probabilities(60), 60), measured(60), reference)
    assert any("no feature distribution is stored" in sentence for sentence in sentences)


def test_a_share_of_answers_with_low_confidence_is_drift(reference):
    unsure = np.full((30, 3), 1 / 3, np.float32)
    said = np.concatenate([probabilities(270, seed=1), unsure])
    over, _ = compare(asked(said), MeasuredImages(), reference)
    (low,) = [row for name, row in over.items() if name.startswith("confidence under")]
    assert low["reference"] == "the validation images" and low["was"] == "4 of 200"


def test_a_confidence_just_below_one_is_not_rounded_up(reference):
    sure = np.full(50, 0.9996, np.float32)
    saturated = dataclasses.replace(reference, labels=["cat"] * 50, confidence=sure)
    over, _ = compare(asked(probabilities(270, seed=1)), MeasuredImages(), saturated)
    assert "confidence under 0.9996" in over


def test_the_answers_of_a_version_come_back_with_it(pushed, tmp_path, reference):
    shutil.copytree(pushed, tmp_path / "out")
    other = shutil.copytree(
        pushed / "artifacts/ImageTrainer/model/9/Format-Serving", tmp_path / "m"
    )
    (other / "saved_model.pb").write_bytes(b"another graph")
    versions.publish(tmp_path / "out/model", {"": other}, {"vocabulary": list(CLASSES)})
    rollback.rollback(tmp_path / "out", 1)
    restored = lookup.model(tmp_path / "out", published=True).published
    assert comparing.load(restored).labels == reference.labels
