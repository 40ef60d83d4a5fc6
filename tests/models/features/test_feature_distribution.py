"""Tests of the distribution of features: known and other kinds of images, and its file."""

import numpy as np
import pytest

from imgpipe.models.features import feature_distribution
from imgpipe.models.names import DISTRIBUTION_FILE


def features(kind, count, seed):
    """Return features [count, 96] of three classes; a `kind` has 12 directions of its own."""
    directions = np.random.default_rng(kind).normal(size=(12, 96))
    drawing = np.random.default_rng(seed)
    labels = drawing.integers(0, 3, count)
    inside = drawing.normal(size=(count, 12)) + 3 * np.eye(12)[labels]
    return inside @ directions + drawing.normal(size=(count, 96)) + 4, labels


def above(distribution, rows):
    return (distribution.scores(rows) > distribution.threshold).sum()


@pytest.fixture(scope="module")
def known():
    rows, labels = features(1, 600, seed=0)
    return feature_distribution.fit(rows.astype(np.float16), labels, features(1, 200, seed=1)[0])


def test_images_of_the_same_kind_score_like_held_out_images(known):
    assert (known.held_out, known.held_out_above) == (200, 2)
    for seed in range(2, 8):
        assert above(known, features(1, 300, seed)[0]) <= 12


def test_images_of_another_kind_are_above_the_threshold(known):
    assert above(known, features(2, 300, seed=9)[0]) >= 295


def test_hardly_any_image_of_the_same_kind_is_far(known):
    assert known.far > known.threshold
    same = known.scores(features(1, 3000, seed=8)[0])
    assert 0 < (same > known.far).sum() <= 15, "about one in a thousand"
    assert (known.scores(features(2, 300, seed=9)[0]) > known.far).mean() > 0.9


def test_training_images_are_held_out_in_turn_if_there_are_too_few_others():
    rows, labels = features(1, 300, seed=0)
    others = features(1, 20, seed=1)[0]
    found = feature_distribution.fit(rows, labels, others, np.arange(300))
    assert found.held_out == 320
    usual = [above(found, features(1, 300, seed)[0]) for seed in range(2, 8)]
    assert sum(usual) <= 0.02 * 1800, "about one in a hundred is above the threshold"
    assert above(found, features(2, 100, seed=9)[0]) == 100
    assert feature_distribution.fit(rows, labels, others) is None


@pytest.mark.parametrize("images", [20, 30, 60])
def test_ten_images_of_a_class_tell_other_kinds(images):
    shares = []
    for seed in range(6):
        rows, labels = features(1, images, 100 + seed)
        found = feature_distribution.fit(rows, labels, rows[:0], np.arange(images))
        same, other = (features(kind, 300, 300 + seed)[0] for kind in (1, 2 + seed))
        shares.append((above(found, same) / 300, above(found, other) / 300))
    false, detected = np.mean(shares, axis=0)
    assert false < 0.1
    assert detected > 0.9


def test_images_of_a_group_are_held_out_together_and_counted_once():
    rows, labels = features(1, 100, seed=0)
    alone = feature_distribution.fit(rows, labels, rows[:0], np.arange(100))
    frames, kinds = np.repeat(rows, 3, axis=0), np.repeat(labels, 3)
    grouped = feature_distribution.fit(frames, kinds, rows[:0], np.repeat(np.arange(100), 3))
    assert grouped.held_out == 100
    assert grouped.threshold == pytest.approx(alone.threshold, rel=0.2)


@pytest.mark.parametrize(
    ("train", "held_out", "dim"), [(11, 60, 8), (100, 49, 8), (100, 60, 0), (100, 60, 4097)]
)
def test_too_few_images_or_too_long_features_give_no_distribution(train, held_out, dim):
    rows, others = np.ones((train, dim)), np.ones((held_out, dim))
    assert feature_distribution.fit(rows, np.zeros(train, int), others) is None


def test_a_distribution_is_read_as_it_was_written(known, tmp_path):
    known.save(str(tmp_path))
    found = feature_distribution.load(str(tmp_path))
    rows = features(2, 20, seed=4)[0]
    np.testing.assert_array_equal(found.scores(rows), known.scores(rows))
    assert found.held_out == 200 and found.threshold == known.threshold
    assert found.far == known.far
    content = (tmp_path / DISTRIBUTION_FILE).read_bytes()
    known.save(str(tmp_path))
    assert (tmp_path / DISTRIBUTION_FILE).read_bytes() == content


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_a_damaged_file_counts_as_absent(known, tmp_path, keep):
    assert feature_distribution.load(str(tmp_path)) is None
    known.save(str(tmp_path))
    path = tmp_path / DISTRIBUTION_FILE
    path.write_bytes(path.read_bytes()[:keep])
    assert feature_distribution.load(str(tmp_path)) is None
