"""Prediction records give the same answers whether they hold all classes or some of them."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.components.predictor import prediction
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names


def stored(probabilities, label):
    """Return the record of a prediction."""
    values = {names.LABEL_INDEX: label, **prediction.features(probabilities, label)}
    return records.make(values)


def drawn(classes):
    """Return random probabilities, float32 [classes]."""
    values = np.random.default_rng(classes).dirichlet(np.ones(classes))
    return values.astype(np.float32)


@pytest.mark.parametrize("classes", [2, 1000, 1001, 5000])
def test_a_record_keeps_the_best_class_and_that_of_the_label(classes):
    probabilities = drawn(classes)
    for label in (0, classes - 1, int(probabilities.argmax()), int(probabilities.argmin())):
        found = prediction.read(stored(probabilities, label))
        assert found.predicted == probabilities.argmax()
        assert found.confidence == probabilities.max()
        assert found.of_label == probabilities[label]


@pytest.mark.parametrize("classes", [3, 5000])
def test_an_image_without_a_label_has_no_probability_of_it(classes):
    found = prediction.read(stored(drawn(classes), -1))
    assert found.of_label == 0.0 and found.predicted == drawn(classes).argmax()


def test_the_size_of_a_record_does_not_grow_with_the_number_of_classes():
    sizes = [stored(drawn(classes), 0).ByteSize() for classes in (2_000, 50_000)]
    assert max(sizes) < 400
