"""Tests of the survey of a log: counts by version, different images, least certain images."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.pipeline.request_drift.log import Answer, Location
from imgpipe.pipeline.request_drift.survey import survey
from tests.pipeline.request_drift.drawn import CLASSES, probabilities


def answers(rows, images=None, labels=None, version=1):
    """Yield the answers of a log, one for each row of probabilities."""
    for number, row in enumerate(rows):
        label = labels[number] if labels else CLASSES[int(np.argmax(row))]
        image = images[number] if images else None
        place = Location(0, number, 0)
        yield Answer(place, version, 100 + number, label, np.float32(row), CLASSES, image)


def test_labels_confidence_and_times_are_kept_by_version():
    rows = [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.4, 0.3, 0.3]]
    found = survey(answers(rows, labels=["owl", "cat", "unknown"]), 10)
    asked = found.versions[1]
    assert asked.labels == {"owl": 1, "cat": 1, "unknown": 1}
    assert list(asked.confidence) == pytest.approx([0.7, 0.5, 0.4])
    assert asked.unknown == pytest.approx(1 / 3)
    assert (asked.first, asked.last, found.answers, found.images) == (100, 102, 3, 0)
    assert found.uncertain == []


def test_the_same_image_counts_once():
    rows = [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]
    found = survey(answers(rows, [b"a", b"b", b"a"]), 10)
    assert found.versions[1].locations == [Location(0, 0, 0), Location(0, 1, 0)]
    assert [one.location.record for one in found.uncertain] == [1, 0]


def test_the_least_certain_come_first_and_a_tie_goes_to_the_smaller_lead():
    rows = [[0.6, 0.2, 0.2], [0.5, 0.3, 0.2], [0.5, 0.45, 0.05], [0.9, 0.1, 0.0]]
    found = survey(answers(rows, [b"0", b"1", b"2", b"3"]), 3).uncertain
    assert [one.location.record for one in found] == [2, 1, 0]
    assert (found[0].label, found[0].second) == ("cat", "dog")
    assert found[0].second_probability == pytest.approx(0.45)


def test_an_unknown_image_keeps_its_most_probable_class():
    (found,) = survey(answers([[0.3, 0.4, 0.3]], [b"x"], ["unknown"]), 5).uncertain
    assert found.label == "dog"


def test_at_most_the_given_number_of_least_certain_images_is_kept():
    rows = probabilities(3000, seed=3)
    found = survey(answers(rows, [bytes([i % 256, i // 256]) for i in range(3000)]), 40).uncertain
    expected = np.sort(rows.max(axis=1))[:40]
    np.testing.assert_allclose([one.probability for one in found], expected)


def test_an_answer_of_nan_has_probability_0():
    found = survey(answers([[np.nan, np.nan, np.nan], [0.9, 0.1, 0.0]], [b"a", b"b"]), 1)
    assert found.uncertain[0].location.record == 0 and found.uncertain[0].probability == 0.0


def test_a_hundred_thousand_answers_take_four_bytes_each():
    rows = np.resize(probabilities(1000), (100_000, 3))
    images = [number.to_bytes(4, "big") for number in range(100_000)]
    found = survey(answers(rows, images), 50)
    assert found.answers == 100_000 and len(found.uncertain) == 50
    assert found.versions[1].confidence.itemsize * found.answers == 400_000
