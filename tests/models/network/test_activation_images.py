"""Tests of the images of a network's activations: sizes, layout, and labels of any characters."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from imgpipe.models.network import activation_images


def _open(content: bytes) -> np.ndarray:
    """Return a PNG image as uint8 [height, width, 3]."""
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def _image(width: int, height: int) -> np.ndarray:
    """Return a random image as uint8 [height, width, 3]."""
    return np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _holds(sheet: np.ndarray, part: np.ndarray) -> bool:
    """Return whether `sheet` contains `part` pixel for pixel."""
    height, width = part.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (1, width))[:, :, 0]
    found = np.argwhere((windows == part[0, :, 0]).all(axis=-1))
    return any((sheet[y : y + height, x : x + width] == part).all() for y, x in found)


@pytest.mark.parametrize("size", [(350, 200), (64, 64), (31, 500)])
def test_an_overlay_is_as_large_as_its_image(size) -> None:
    image = _image(*size)
    cam = np.zeros((7, 5), np.float32)
    cam[0, 0] = 1
    laid = activation_images.overlay(image, cam)
    assert laid.shape == image.shape
    assert laid.dtype == np.uint8
    height, width = image.shape[:2]
    hot, cold = laid[: height // 14, : width // 10], laid[height // 2 :, width // 2 :]
    assert hot[..., 0].mean() > hot[..., 2].mean() + 20  # red against blue
    assert cold[..., 0].mean() < cold[..., 2].mean()


def test_the_sheet_shows_the_image_and_its_overlay() -> None:
    image, cam = _image(400, 330), np.eye(4, dtype=np.float32)
    sheet = _open(activation_images.grad_cam(image, cam, "cat", [("cat", 0.9), ("dog", 0.1)]))
    assert _holds(sheet, image)
    assert _holds(sheet, activation_images.overlay(image, cam))


@pytest.mark.parametrize(("size", "longest"), [((3000, 20), 640), ((10, 8), 320)])
def test_images_of_any_size_are_scaled_to_a_readable_size(size, longest) -> None:
    cam = np.ones((2, 2), np.float32)
    sheet = _open(activation_images.grad_cam(_image(*size), cam, "cat", [("cat", 1.0)]))
    assert longest < sheet.shape[1] < 3 * longest + 300


def test_labels_may_contain_any_letters_and_dollar_signs() -> None:
    label = "$a$ \\frac 猫 {" + "long " * 40
    blank = np.zeros((2, 2), np.float32)
    activation_images.grad_cam(_image(40, 40), blank, label, [(label, 0.5)] * 5)
    values = np.array([0.5, 0.5], np.float32)
    activation_images.vector(values, "probabilities", "", _image(8, 8), [label, "$b$"])


@pytest.mark.parametrize(("side", "tile"), [(7, 112), (17, 119), (148, 148), (298, 160)])
def test_at_most_64_maps_are_shown_each_of_a_readable_size(side: int, tile: int) -> None:
    maps = np.random.default_rng(0).normal(size=(side, side, 70)).astype(np.float32)
    sheet = _open(activation_images.feature_maps(maps, "conv", "", _image(20, 20)))
    grid = sheet[120:]
    assert sheet.shape[1] == 8 * (tile + 6) + 6
    assert grid.shape[0] // (tile + 6 + 16) == 8


def test_each_map_has_its_own_scale_and_an_empty_one_is_grey() -> None:
    maps = np.zeros((112, 112, 3), np.float32)
    maps[:56, :, 0] = 1e-3
    maps[:, :56, 1] = 1e3
    sheet = _open(activation_images.feature_maps(maps, "conv", "(1)", _image(20, 20)))
    bright, dark = np.array([253, 231, 37]), np.array([68, 1, 84])  # the ends of viridis
    tiles = [sheet[124 : 124 + 112, 6 + n * 118 : 6 + n * 118 + 112].astype(int) for n in range(3)]
    assert np.abs(tiles[0][:, :56] - bright).max() <= 1
    assert np.abs(tiles[0][:, 56:] - dark).max() <= 1
    assert np.abs(tiles[1][:56] - bright).max() <= 1
    assert (tiles[2] == 225).all()
