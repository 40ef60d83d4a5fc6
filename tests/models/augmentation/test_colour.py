"""Tests of colour augmentation, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imgpipe.models.augmentation import colour
from tests.models.augmentation.conftest import STILL, hashes_of, views_of

_ALL = replace(STILL, brightness=0.3, contrast=0.5, saturation=0.8, hue=0.2)
_LUMINANCE = np.array(colour.LUMINANCE, np.float32)


def test_brightness_adds_the_same_to_every_pixel(images) -> None:
    shift = views_of(images, 1, replace(STILL, brightness=0.1)) - images
    each = shift.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(
        shift, np.broadcast_to(each[:, None, None, None], shift.shape), atol=1e-3
    )
    assert np.abs(each).max() <= 25.5 + 1e-3
    assert each.min() < -10 and each.max() > 10


def test_contrast_stretches_about_the_mean(images) -> None:
    views = views_of(images, 1, replace(STILL, contrast=0.4))
    mean = (images.mean(axis=(1, 2)) @ _LUMINANCE)[:, None, None, None]
    factor = ((views - mean) * (images - mean)).sum((1, 2, 3)) / ((images - mean) ** 2).sum(
        (1, 2, 3)
    )
    np.testing.assert_allclose(
        views, mean + factor[:, None, None, None] * (images - mean), atol=1e-2
    )
    assert 0.6 - 1e-3 <= factor.min() < 0.85 and 1.15 < factor.max() <= 1.4 + 1e-3


def test_saturation_changes_the_spread_of_channels_but_not_luminance(images) -> None:
    views = views_of(images, 1, replace(STILL, saturation=1))
    np.testing.assert_allclose(views @ _LUMINANCE, images @ _LUMINANCE, atol=0.5)
    spread = views.std(axis=-1).mean(axis=(1, 2)) / images.std(axis=-1).mean(axis=(1, 2))
    assert spread.min() < 0.3 and 1.6 < spread.max() < 2.01


def test_a_hue_rotation_by_a_third_turns_red_into_green() -> None:
    import tensorflow as tf

    third = colour.colour_matrix(tf.constant(1.0), tf.constant(2 * np.pi / 3, tf.float32)).numpy()
    assert (third @ [1.0, 0, 0]).argmax() == 1
    whole = colour.colour_matrix(tf.constant(1.0), tf.constant(2 * np.pi, tf.float32)).numpy()
    np.testing.assert_allclose(whole, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("kind", ["hue", "saturation", "contrast", "brightness"])
def test_grey_stays_grey(kind: str) -> None:
    grey = np.repeat(np.random.default_rng(1).uniform(0, 255, (16, 9, 9, 1)), 3, -1)
    spec = replace(STILL, **{kind: 0.5})
    views = views_of(grey.astype(np.float32), 1, spec)
    np.testing.assert_allclose(views[..., 0], views[..., 1], atol=1e-2)
    np.testing.assert_allclose(views[..., 0], views[..., 2], atol=1e-2)
    if kind in ("hue", "saturation"):
        np.testing.assert_allclose(views, grey, atol=1e-2)


def test_colours_stay_within_0_and_255() -> None:
    ends = np.random.default_rng(2).choice([0.0, 255.0], (16, 9, 9, 3)).astype(np.float32)
    views = views_of(ends, 1, _ALL)
    assert views.min() >= 0 and views.max() <= 255
    assert (views == 0).any() and (views == 255).any()


def test_view_0_is_unchanged_in_a_batch_with_augmented_views(images) -> None:
    numbers = np.arange(len(images)) % 3
    views = views_of(images, numbers, _ALL)
    np.testing.assert_array_equal(views[numbers == 0], images[numbers == 0])
    assert (np.abs(views - images)[numbers > 0].mean(axis=(1, 2, 3)) > 0.5).all()


def test_a_view_does_not_depend_on_its_batch(images) -> None:
    import tensorflow as tf

    from imgpipe.models.augmentation import augment

    spec = replace(_ALL, rotation=30)
    hashes = hashes_of(len(images))
    graph = tf.function(lambda i, h: augment(i, h, 3, spec), jit_compile=False)

    def views(order: list[int]) -> np.ndarray:
        return graph(tf.constant(images[order]), tf.constant(hashes[order], tf.int64)).numpy()

    together = views(list(range(len(images))))
    turned = views(list(range(len(images)))[::-1])[::-1]
    np.testing.assert_array_equal(together, turned)
    for few in ([5], [7, 5], list(range(11))):
        np.testing.assert_array_equal(views(few), together[few])
