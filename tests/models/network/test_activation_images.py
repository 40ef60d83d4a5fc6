"""Tests of the drawing of Grad-CAM."""

from __future__ import annotations

import numpy as np

from imgpipe.models.network import activation_images as activations


def test_the_overlay_has_the_size_of_the_image_and_the_colours_of_the_map() -> None:
    image = np.full((40, 60, 3), 128, np.uint8)
    cam = np.zeros((2, 3), np.float32)
    cam[0, 2] = 1.0
    drawn = activations.overlay(image, cam).astype(int)
    assert drawn.shape == image.shape
    assert drawn[0, -1, 0] > drawn[0, -1, 2], "red where the map is highest"
    assert drawn[-1, 0, 2] > drawn[-1, 0, 0], "blue where it is 0"
