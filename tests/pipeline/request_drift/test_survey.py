"""Tests of the survey of a log: counts by version, different images."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.pipeline.request_drift.log import Answer, Location
from imgpipe.pipeline.request_drift.survey import survey
from tests.pipeline.request_drift.drawn import CLASSES


def answers(rows, images=None, labels=None, version=1):
    """Yield the answers of a log, one for each row of probabilities."""
    for number, row in enumerate(rows):
        label = labels[number] if labels else CLASSES[int(np.argmax(row))]
        image = images[number] if images else None
        place = Location(0, number, 0)
        yield Answer(place, version, 100 + number, label, np.float32(row), CLASSES, image)


def test_labels_confidence_and_times_are_kept_by_version():
    rows = [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.4, 0.3, 0.3]]
    found = survey(answers(rows, labels=["owl", "cat", "unknown"]))
    asked = found.versions[1]
    assert asked.labels == {"owl": 1, "cat": 1, "unknown": 1}
    assert list(asked.confidence) == pytest.approx([0.7, 0.5, 0.4])
    assert asked.unknown == pytest.approx(1 / 3)
    assert (asked.first, asked.last, found.answers, found.images) == (100, 102, 3, 0)


def test_the_same_image_counts_once():
    rows = [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]
    found = survey(answers(rows, [b"a", b"b", b"a"]))
    assert found.versions[1].locations == [Location(0, 0, 0), Location(0, 1, 0)]


def test_an_answer_of_nan_has_confidence_0():
    found = survey(answers([[np.nan, np.nan, np.nan], [0.9, 0.1, 0.0]], [b"a", b"b"]))
    assert list(found.versions[1].confidence) == pytest.approx([0.0, 0.9])
