"""The map of the feature bank keeps distances, marks mistakes, and is always the same."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from imgpipe.components.report import embedding
from imgpipe.models import feature_names as names
from tests.components.report.test_doubtful_labels import CLASSES, clouds


def test_points_of_a_plane_keep_their_distances():
    rng = np.random.default_rng(0)
    plane = rng.normal(0, [3, 1], (200, 2))
    turned = plane @ np.linalg.qr(rng.normal(0, 1, (50, 50)))[0][:2]
    places, share = embedding.principal(turned)
    assert share == pytest.approx(1.0)
    assert np.abs(places).max() == pytest.approx(1.0)
    centred = plane - plane.mean(axis=0)

    def distances(x):
        return np.linalg.norm(x[:, None] - x[None], axis=-1)

    ratio = distances(centred)[0, 1] / distances(places)[0, 1]
    assert distances(places) * ratio == pytest.approx(distances(centred), abs=1e-6)


def test_equal_features_give_finite_points_and_a_share_of_zero():
    places, share = embedding.principal(np.ones((20, 5)))
    assert np.isfinite(places).all() and share == 0.0


def test_classes_lie_apart_and_mistakes_are_marked(bank, monkeypatch):
    features, labels = clouds(300)
    uri = bank(features, labels)
    digest = hashlib.sha256(b"1").hexdigest().encode()

    def wrong(hashes):
        return np.isin(hashes, [digest])

    found = embedding.build(uri, CLASSES, {names.VALIDATION: wrong})
    assert found["images"] == len(found["points"]) == 300
    assert [point[4] for point in found["points"]].count(1) == 1
    points = np.array(found["points"])
    assert sorted(points[:, 2].tolist()) == sorted(labels.tolist())
    centres = np.stack([points[points[:, 2] == i, :2].mean(axis=0) for i in range(3)])
    spread = np.mean([points[points[:, 2] == i, :2].std(axis=0).mean() for i in range(3)])
    assert np.linalg.norm(centres[0] - centres[1]) > spread
    assert embedding.build(uri, CLASSES, {names.VALIDATION: wrong}) == found
    monkeypatch.setattr(embedding, "POINTS", 60)
    few = embedding.build(uri, CLASSES, {names.VALIDATION: wrong})
    assert few["images"] == 300 and 55 <= len(few["points"]) <= 65
    assert [point[4] for point in few["points"]].count(1) == 1, "a mistake is never left out"


def test_wide_features_are_mapped_and_too_few_images_are_not(bank):
    features, labels = clouds(30, dim=3000)
    found = embedding.build(bank(features, labels), CLASSES, {})
    assert len(found["points"]) == 30
    assert embedding.build(bank(features[:6], labels[:6]), CLASSES, {}) is None
