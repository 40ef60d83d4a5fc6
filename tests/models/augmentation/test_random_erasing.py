"""Tests of random erasing: how often it happens, how large the rectangles are, and where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imgpipe.models.augmentation import random_erasing
from tests.models.augmentation.conftest import STILL, views_of

_COUNT, _SIDE = 300, 50


@pytest.fixture(scope="module")
def erased() -> np.ndarray:
    """Return bool [300, 50, 50]: which pixels of each view were erased.

    The images have the value -1 everywhere, which the noise never has.
    """
    images = np.full((_COUNT, _SIDE, _SIDE, 3), -1, np.float32)
    return (views_of(images, 1, replace(STILL, erasing=0.4)) != -1).all(axis=-1)


def test_half_of_the_views_lose_a_rectangle(erased) -> None:
    hit = erased.any(axis=(1, 2))
    assert 0.4 < hit.mean() < 0.6
    for mask in erased[hit]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert mask.sum() == len(rows) * len(columns)


def test_the_erased_share_of_the_area_lies_within_its_bounds(erased) -> None:
    share = erased[erased.any(axis=(1, 2))].mean(axis=(1, 2))
    assert share.max() <= 0.4
    rounding = 1 / _SIDE * 0.6  # a side is rounded down to whole pixels
    assert share.min() >= random_erasing.LEAST - rounding
    assert share.min() < 0.06 and share.max() > 0.3  # and the shares vary within them
    assert 0.15 < share.mean() < 0.25


def test_the_aspect_ratio_is_between_1_to_3_and_3_to_1(erased) -> None:
    hit = erased[erased.any(axis=(1, 2))]
    tall, wide = hit.any(axis=2).sum(axis=1), hit.any(axis=1).sum(axis=1)
    ratio = tall / wide
    assert ratio.max() < 4.2 and ratio.min() > 1 / 4.2  # 3.3, rounded to whole pixels
    assert ratio.max() > 2 and ratio.min() < 0.5
    assert 0.35 < (ratio > 1).mean() < 0.65


def test_the_rectangle_may_be_anywhere(erased) -> None:
    assert erased.any(axis=(0, 1)).all() and erased.any(axis=(0, 2)).all()
    edges = [erased[:, 0], erased[:, -1], erased[:, :, 0], erased[:, :, -1]]
    assert all(0.01 < edge.any(axis=1).mean() < 0.2 for edge in edges)


def test_noise_differs_between_views_and_covers_all_values(images) -> None:
    spec = replace(STILL, erasing=0.4)
    same = np.zeros((40, 32, 32, 3), np.float32)
    first, second = views_of(same, 1, spec), views_of(same, 2, spec)
    values = first[first > 0]
    assert values.min() >= 0 and values.max() < 255
    assert 100 < values.mean() < 155 and values.std() > 60
    both = (first > 0) & (second > 0)
    assert both.any() and not np.isclose(first[both], second[both]).mean() > 0.05


@pytest.mark.parametrize("side", [1, 2, 7])
def test_tiny_images_can_be_erased_too(side: int) -> None:
    images = np.zeros((30, side, side, 3), np.float32)
    assert views_of(images, 1, replace(STILL, erasing=0.9)).shape == images.shape
    assert views_of(images, 1, replace(STILL, erasing=0.01)).shape == images.shape


def test_view_0_is_never_erased(images) -> None:
    views = views_of(images, 0, replace(STILL, erasing=0.9))
    np.testing.assert_array_equal(views, images)
