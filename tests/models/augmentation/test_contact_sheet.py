"""Tests that contact sheets show the views that the feature bank gives to the backbone."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgpipe.models.augmentation import ViewSpec, contact_sheet
from imgpipe.models.backbones import Backbone
from imgpipe.models.features import extractor

_SIZE = 48
_SPEC = ViewSpec(count=3, brightness=0.2, hue=0.1)


def _hash(data: bytes) -> str:
    """Return the SHA-256 digest of an image file."""
    return hashlib.sha256(data).hexdigest()


def _pixels_as_features(backbone: Backbone, side: int, *_: object) -> Any:
    """Return a model whose features are the pixels that it receives."""
    import keras

    pixels = keras.Input((side, side, 3))
    return keras.Model(pixels, keras.layers.Flatten()(pixels))


def test_the_views_are_those_that_the_feature_bank_uses(draw, monkeypatch) -> None:
    monkeypatch.setattr(extractor, "build_features", _pixels_as_features)
    image = draw(1)
    shown = contact_sheet.view_pixels(image, _hash(image), _SPEC, _SIZE)
    assert shown.shape == (4, _SIZE, _SIZE, 3) and shown.dtype == np.uint8
    identity = extractor.FeatureExtractor(image_size=_SIZE, precision="float32", views=_SPEC)
    (given,) = identity.extract([image], [_hash(image)], [range(4)])
    # Features are float16, whose steps are 0.125 up to 255.
    np.testing.assert_allclose(shown, given.reshape(shown.shape), atol=0.5 + 0.125)


def test_the_first_view_is_the_image_itself(draw) -> None:
    image = draw(2, size=(_SIZE, _SIZE), format="PNG")
    shown = contact_sheet.view_pixels(image, _hash(image), _SPEC, _SIZE)
    np.testing.assert_array_equal(shown[0], np.asarray(Image.open(io.BytesIO(image))))
    assert all(np.abs(view.astype(int) - shown[0]).mean() > 2 for view in shown[1:])


def test_each_row_shows_an_image_and_each_column_a_view() -> None:
    views = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 20, 3), np.uint8)
    sheet = contact_sheet.draw([("cat/1.jpg", views[0]), ("x" * 99 + ".jpg", views[1])], 20)
    drawn = np.asarray(Image.open(io.BytesIO(contact_sheet.png(sheet))))
    for row in views:
        places = [_place(drawn, view) for view in row]
        assert len({top for top, _ in places}) == 1
        assert [left for _, left in places] == sorted({left for _, left in places})


def _place(sheet: np.ndarray, view: np.ndarray) -> tuple[int, int]:
    """Return the top and left position of a view on the sheet."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet, view.shape)[:, :, 0]
    found = np.argwhere((windows == view).all(axis=(-1, -2, -3)))
    assert len(found) == 1
    return tuple(found[0])


def test_views_are_scaled_to_the_size_of_the_sheet() -> None:
    views = np.full((1, 2, 40, 40, 3), 7, np.uint8)
    small, large = (contact_sheet.draw([("a", views[0])], side) for side in (10, 40))
    assert small.width < large.width / 2
    assert (np.asarray(small) == 7).all(axis=-1).sum() == 2 * 10 * 10


def test_captions_may_contain_any_characters() -> None:
    views = np.zeros((1, 1, 8, 8, 3), np.uint8)
    for caption in ("", "猫/\udcff\n.jpg", "…" * 300):
        assert contact_sheet.draw([(caption, views[0])], 8).height > 8


def test_a_sheet_without_images_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet.draw([], 10)
