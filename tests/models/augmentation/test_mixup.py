"""Tests of MixUp and CutMix: mixtures are repeatable, and labels have the shares of the images."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from imgpipe.models.augmentation.mixup import Mixing, mix
from imgpipe.models.errors import ConfigError

_COUNT, _CLASSES, _SIDE = 64, 5, 16
_SEED = (3, 7)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Return one-hot labels as float32 [64, 5]."""
    return np.eye(_CLASSES, dtype=np.float32)[np.arange(_COUNT) % _CLASSES]


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Return random features as float32 [64, 12]."""
    return np.random.default_rng(0).normal(size=(_COUNT, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Return float32 [64, 16, 16, 3]; all values of an image are its index, which identifies it."""
    place = np.arange(_COUNT, dtype=np.float32)[:, None, None, None]
    return np.broadcast_to(place, (_COUNT, _SIDE, _SIDE, 3)).copy()


def _mix(inputs, one_hot, seed=_SEED, **settings) -> tuple[np.ndarray, np.ndarray]:
    """Mix a batch and return its inputs and labels as NumPy arrays."""
    import tensorflow as tf

    mixed = mix(tf.constant(inputs), tf.constant(one_hot), tf.constant(seed, tf.int64), **settings)
    return tuple(part.numpy() for part in mixed)


def _partner_and_share(mixed: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each example its partner and the share of itself that it keeps.

    Both are found by least squares.
    """
    partners, shares = [], []
    for row, own in zip(mixed, whole, strict=True):
        direction = own - whole
        share = ((row - whole) * direction).sum(1) / np.maximum((direction**2).sum(1), 1e-12)
        miss = np.abs(share[:, None] * own + (1 - share[:, None]) * whole - row).max(1)
        partners.append(int(miss.argmin()))
        shares.append(share[miss.argmin()])
    return np.array(partners), np.array(shares)


def test_without_mixing_the_batch_is_unchanged(features, labels) -> None:
    mixed, named = _mix(features, labels)
    np.testing.assert_array_equal(mixed, features)
    np.testing.assert_array_equal(named, labels)


def test_mixup_blends_examples_and_labels_alike(features, labels) -> None:
    mixed, named = _mix(features, labels, mixup=1.0)
    partners, shares = _partner_and_share(mixed, features)
    others = shares < 0.999
    assert others.sum() > _COUNT * 0.9
    share = shares[others, None]
    expected = share * labels[others] + (1 - share) * labels[partners[others]]
    np.testing.assert_allclose(named[others], expected, atol=1e-3)
    np.testing.assert_allclose(named.sum(axis=1), 1, atol=1e-5)
    assert len(set(partners[others])) == others.sum()  # a permutation: no partner occurs twice
    assert 0.4 < share.mean() < 0.6 and share.std() > 0.2


@pytest.mark.parametrize(("alpha", "deviation"), [(0.2, 0.42), (1.0, 0.289), (8.0, 0.121)])
def test_shares_follow_the_beta_distribution(alpha: float, deviation: float) -> None:
    """The standard deviation of Beta(a, a) is 1 / (2 √(2a + 1))."""
    count = 4000
    inputs = np.arange(2 * count, dtype=np.float32).reshape(count, 2) ** 2
    one_hot = np.eye(2, dtype=np.float32)[np.arange(count) % 2]
    _, named = _mix(inputs, one_hot, mixup=alpha)
    share = named[np.arange(count), np.arange(count) % 2]
    share = share[share < 1]  # where the partner is of the other class
    assert abs(share.std() - deviation) < 0.02
    assert abs(share.mean() - 0.5) < 0.03


@pytest.mark.parametrize("alpha", [0.001, 0.01])
def test_a_tiny_alpha_gives_no_nan(features, labels, alpha: float) -> None:
    mixed, named = _mix(features, labels, mixup=alpha)
    assert np.isfinite(mixed).all() and np.isfinite(named).all()


def test_mixup_takes_features_maps_and_images(images, labels) -> None:
    for inputs in (images[:, 0, 0], images[:, 0], images):
        mixed, named = _mix(inputs, labels, mixup=0.4)
        assert mixed.shape == inputs.shape and named.shape == labels.shape


def test_cutmix_inserts_a_rectangle_of_another_image(images, labels) -> None:
    mixed, named = _mix(images, labels, cutmix=1.0)
    shares = []
    for own, (image, label) in enumerate(zip(mixed[..., 0], named, strict=True)):
        values = set(np.unique(image)) - {own}
        assert len(values) <= 1
        foreign = image != own
        share = 1 - foreign.mean()
        shares.append(share)
        if values:
            rows = np.flatnonzero(foreign.any(axis=1))
            columns = np.flatnonzero(foreign.any(axis=0))
            assert foreign[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            other = labels[int(values.pop())]
            np.testing.assert_allclose(label, share * labels[own] + (1 - share) * other, atol=1e-5)
    assert min(shares) < 0.5 and max(shares) > 0.9


def test_with_mixup_and_cutmix_each_batch_uses_one_of_them(images, labels) -> None:
    cut = 0
    for step in range(30):
        mixed, _ = _mix(images, labels, seed=(0, step), mixup=1.0, cutmix=1.0)
        cut += bool((mixed == np.round(mixed)).all())
    assert 7 < cut < 23


def test_the_same_seed_gives_the_same_batch_and_another_seed_another(images, labels) -> None:
    for settings in ({"mixup": 0.3}, {"cutmix": 1.0}):
        once, again = (_mix(images, labels, **settings) for _ in range(2))
        np.testing.assert_array_equal(once[0], again[0])
        np.testing.assert_array_equal(once[1], again[1])
        other = _mix(images, labels, seed=(3, 8), **settings)
        assert not np.array_equal(once[0], other[0])


def test_mixing_works_in_a_dataset_with_a_short_last_batch(features, labels) -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((features, labels)).batch(24).enumerate()
    mixed = data.map(lambda step, batch: mix(*batch, tf.stack([0, step]), mixup=0.2))
    counts = [(len(x), round(float(y.numpy().sum()))) for x, y in mixed]
    assert counts == [(24, 24), (24, 24), (16, 16)]


def test_cutmix_on_pooled_features_is_refused(features, labels) -> None:
    with pytest.raises(ConfigError, match=r"views\.cutmix: .*Received: \(64, 12\).*views\.mixup"):
        _mix(features, labels, cutmix=1.0)


@pytest.mark.parametrize("setting", ["mixup", "cutmix"])
@pytest.mark.parametrize("value", [-0.1, 11, float("nan")])
def test_a_strength_out_of_range_is_named(setting: str, value: object) -> None:
    with pytest.raises(ValidationError, match=rf"(?s){setting}.*input_value={value!r}"):
        Mixing(**{setting: value})
