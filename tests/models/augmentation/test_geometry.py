"""Tests of the warp: its golden values, flips, scale, and that the centre stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from imgpipe.models.augmentation import ViewSpec, geometry
from tests.models.augmentation.conftest import STILL, hashes_of, views_of

#: The coefficients a, b, c, d, e, f of the transforms of two views; see `_transform`.
_PINNED = (
    (1.146088, -0.204425, -17.804531, 0.176137, 1.064781, 12.522196),
    (0.755784, 0.509894, 22.482861, -0.39597, 1.059846, 46.798981),
)


def test_the_transforms_of_the_course_warp_equal_golden_values() -> None:
    """The two transforms are those with which the first banks were made."""
    import tensorflow as tf

    seeds = tf.constant([[hashes_of(1)[0], 1], [hashes_of(2)[1], 4]], tf.int64)
    found = geometry.projective_transforms(seeds, tf.constant(224.0), ViewSpec()).numpy()
    np.testing.assert_allclose(found[:, :6], _PINNED, rtol=1e-4, atol=1e-4)


def test_a_vertical_flip_applied_twice_is_the_image(images) -> None:
    spec = replace(STILL, vertical_flip=True)
    once = views_of(images, 1, spec)
    turned = (once == images[:, ::-1]).all(axis=(1, 2, 3))
    kept = (once == images).all(axis=(1, 2, 3))
    assert (turned ^ kept).all()
    assert turned.any() and kept.any()
    np.testing.assert_array_equal(views_of(once, 1, spec), images)


def test_the_two_flips_are_drawn_independently() -> None:
    side = np.arange(6, dtype=np.float32)
    images = np.tile((side[:, None] * 10 + side)[None, :, :, None], (64, 1, 1, 3))
    views = views_of(images, 1, replace(STILL, horizontal_flip=True, vertical_flip=True))
    corners = {float(view[0, 0, 0]) for view in views}
    assert corners == {0.0, 5.0, 50.0, 55.0}


def test_scale_keeps_the_aspect_ratio_and_stays_within_its_range() -> None:
    images = np.zeros((60, 65, 65, 3), np.float32)
    images[:, 24:41, 28:37] = 100  # 17 high, 9 wide, in the middle
    views = views_of(images, 1, replace(STILL, scale=0.5, fill="constant"))
    seen = views[..., 0] > 50
    tall, wide = seen.any(axis=2).sum(axis=1), seen.any(axis=1).sum(axis=1)
    assert tall.min() >= 17 / 1.5 - 2 and tall.max() <= 17 * 1.5 + 2
    assert tall.min() < 13 and tall.max() > 22
    np.testing.assert_allclose(tall / wide, 17 / 9, rtol=0.25)


def test_turning_one_augmentation_on_does_not_change_the_others(images) -> None:
    """Each kind of augmentation draws from a random stream of its own."""
    plain = views_of(images, 2, ViewSpec())
    shift = views_of(images, 2, ViewSpec(brightness=0.05)) - plain
    whole = np.median(shift, axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(shift, np.broadcast_to(whole, shift.shape), atol=1e-3)
    assert np.abs(whole).min() > 0.01


def test_views_of_one_image_differ_by_number_and_hash(images) -> None:
    same = np.repeat(images[:1], 7, 0)
    views = [views_of(same, view, ViewSpec()) for view in (1, 2)]
    flat = np.concatenate(views).reshape(14, -1)
    assert len(np.unique(flat, axis=0)) == 14


def test_view_0_and_a_view_without_augmentation_are_the_image(images) -> None:
    np.testing.assert_array_equal(views_of(images, 0, ViewSpec()), images)
    np.testing.assert_array_equal(views_of(images, 1, STILL), images)


def test_fill_determines_the_pixels_outside_the_image(images) -> None:
    images = np.full_like(images, 200)
    shifted = ViewSpec(shifts=0.5)
    nearest = views_of(images, 1, shifted)
    np.testing.assert_allclose(nearest, images, rtol=1e-5)
    constant = views_of(images, 1, replace(shifted, fill="constant"))
    assert (constant == 0).mean() > 0.05


def test_shifts_stay_within_their_range() -> None:
    images = np.zeros((200, 21, 21, 3), np.float32)
    images[:, 10, 10] = 1
    views = views_of(images, 1, replace(STILL, shifts=0.2, fill="constant"))
    mass = views[..., 0]
    centre = (mass * np.arange(21)).sum((1, 2)) / mass.sum((1, 2))
    assert np.abs(centre - 10).max() <= 0.2 * 21 + 1e-3
    assert centre.std() > 1


def test_the_centre_is_fixed_under_rotation_zoom_and_shear() -> None:
    images = np.zeros((50, 21, 21, 3), np.float32)
    images[:, 10, 10] = 1
    views = views_of(images, 1, replace(STILL, rotation=180, zoom=0.3, shear=0.3))
    np.testing.assert_allclose(views[:, 10, 10], 1, atol=1e-5)
