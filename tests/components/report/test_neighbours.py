"""The nearest training images are the same as those of an exhaustive search."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from imgpipe.components.report import neighbours
from imgpipe.models import feature_names as names
from tests.components.report.test_doubtful_labels import CLASSES, clouds


def digest(i):
    """Return the content hash that the fixture `bank` gives to image i."""
    return hashlib.sha256(str(i).encode()).hexdigest()


@pytest.mark.parametrize("count", [2, 50])
def test_the_search_in_blocks_of_rows_finds_the_nearest_rows(count, monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS", 7)
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (count, 8)).astype(np.float16)
    queries = neighbours.unit(rng.normal(0, 1, (5, 8)))
    cosines, places = neighbours.closest(rows, queries)
    exact = queries @ neighbours.unit(rows).T
    order = np.argsort(-exact, axis=1)[:, : neighbours.SHOWN]
    assert (places == order).all()
    assert cosines == pytest.approx(np.take_along_axis(exact, order, axis=1))


def test_the_nearest_are_named_with_label_and_path(bank):
    features, labels = clouds(60)
    features[4] = features[3] * 2  # 3 is in train, 4 in validation
    uri = bank(features, labels)
    found = neighbours.nearest(uri, CLASSES, {names.VALIDATION: [digest(4)], names.TEST: []})
    (rows,) = found.values()
    assert list(found) == [digest(4)] and len(rows) == 3
    first = rows[0]
    assert first["image_hash"] == digest(3) and first["path"] == f"{labels[3]}/3.jpg"
    assert first["label"] == CLASSES[labels[3]]
    assert (
        first["similarity"] == pytest.approx(1, abs=1e-3)
        and first["similarity"] >= rows[1]["similarity"]
    )


def test_no_image_or_an_unknown_image_has_no_neighbours(bank):
    uri = bank(*clouds(30))
    assert neighbours.nearest(uri, CLASSES, {names.TEST: []}) == {}
    assert neighbours.nearest(uri, CLASSES, {names.TEST: ["0" * 64]}) == {}
