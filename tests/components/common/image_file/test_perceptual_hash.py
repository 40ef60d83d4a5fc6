"""What is near a plain image; how copies of others are found is tested with the search."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imgpipe.components.common.image_file.perceptual_hash import (
    ALL_BYTES,
    BYTES,
    perceptual_hashes,
)
from imgpipe.components.common.image_file.pixels import Pixels
from tests.images import distance, scene


def hashed(image):
    """Return the perceptual hashes of an image."""
    return perceptual_hashes(Pixels(np.asarray(image.convert("RGB"))))


def plain(colour, size=(64, 64)):
    """Return an image of one colour."""
    return Image.new("RGB", size, colour)


def ramp(turned=False):
    """Return a grey image that gets lighter from left to right, or darker if `turned`."""
    light = np.tile(np.linspace(0, 255, 96), (80, 1)).astype(np.uint8)
    return Image.fromarray(light[:, ::-1] if turned else light)


def vignette():
    """Return a grey image that gets darker from the centre to the corners."""
    across, down = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 80))
    return Image.fromarray((255 - 120 * np.hypot(across, down)).astype(np.uint8))


PLAIN = [plain("red"), plain("green"), plain("green", (32, 128)), ramp(), ramp(True), vignette()]


@pytest.mark.parametrize("number", range(len(PLAIN)))
def test_only_the_same_pixels_are_near_a_plain_image(number):
    image = hashed(PLAIN[number])
    assert hashed(PLAIN[number].copy()) == image
    others = [hashed(one) for one in (*PLAIN[:number], *PLAIN[number + 1 :], scene())]
    for start in (0, BYTES):  # upright and mirrored
        assert min(distance(one[start : start + BYTES], image[:BYTES]) for one in others) > 60


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (28, 28), (641, 479), (5000, 40)])
def test_an_image_of_any_size_has_all_hashes(size):
    assert len(hashed(scene(size=size))) == ALL_BYTES
