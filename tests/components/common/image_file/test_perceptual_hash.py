"""Changes of an image that move its perceptual hash, and changes that do not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from imgpipe.components.common.image_file import perceptual_hash
from imgpipe.components.common.image_file.perceptual_hash import (
    ALL_BYTES,
    BYTES,
    KINDS,
    perceptual_hashes,
)
from imgpipe.components.common.image_file.pixels import Pixels
from tests.images import distance, encoded, scene
from tests.looks import decode


class Hashes(NamedTuple):
    """The parts of the bytes that `perceptual_hashes` returns."""

    upright: bytes
    mirrored: bytes
    crops: bytes
    grey: bytes


def hashes(data):
    """Return the bytes of all perceptual hashes of an image file."""
    return perceptual_hashes(Pixels(decode(data)[0]))


def hashed(image, kind="JPEG", **options):
    """Encode an image and return its perceptual hashes."""
    found = hashes(encoded(image, kind, **options))
    assert len(found) == ALL_BYTES
    upright, mirrored = found[:BYTES], found[BYTES : 2 * BYTES]
    return Hashes(upright, mirrored, found[2 * BYTES : KINDS * BYTES], found[KINDS * BYTES : -1])


ORIGINAL = hashed(scene(), "PNG")


@pytest.mark.parametrize(
    ("copy", "bits"),
    [
        (hashed(scene(), quality=40), 8),
        (hashed(scene().resize((160, 128))), 8),
        (hashed(ImageEnhance.Brightness(scene()).enhance(1.2)), 8),
        (hashed(ImageOps.grayscale(scene()), "PNG"), 8),
        (hashed(scene().crop((8, 6, 312, 250))), 48),
    ],
    ids=["saved again", "half the size", "brighter", "grey", "cropped by 5 %"],
)
def test_a_copy_stays_near(copy, bits):
    assert distance(copy.upright, ORIGINAL.upright) <= bits


def test_another_image_is_far_away():
    others = [hashed(scene(seed)) for seed in range(1, 20)]
    assert min(distance(o.upright, ORIGINAL.upright) for o in others) > 60
    assert min(distance(o.mirrored, ORIGINAL.upright) for o in others) > 60


@pytest.mark.parametrize(("left", "top"), [(0, 0), (16, 0), (5, 11), (16, 13), (9, 3)])
@pytest.mark.parametrize("both", [True, False])
def test_a_crop_of_a_twentieth_is_near_one_of_the_hashes_of_crops(left, top, both):
    width, height = (304, 243) if both else (304, 256)
    top = top if both else 0
    crop = hashed(scene().crop((left, top, left + width, top + height)))
    crops = [ORIGINAL.crops[n : n + BYTES] for n in range(0, len(ORIGINAL.crops), BYTES)]
    assert min(distance(crop.upright, one) for one in crops) <= 30


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
    image, copy = (hashed(PLAIN[number], "PNG", compress_level=level) for level in (0, 9))
    assert copy == image
    others = [hashed(one, "PNG") for one in (*PLAIN[:number], *PLAIN[number + 1 :], scene())]
    assert min(distance(one.upright, image.upright) for one in others) > 60
    assert min(distance(one.mirrored, image.upright) for one in others) > 60


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (28, 28), (641, 479), (5000, 40)])
def test_an_image_of_any_size_has_all_hashes(size):
    assert len(hashes(encoded(scene(size=size), "PNG"))) == ALL_BYTES


def similarity(one, other, kind):
    """Return the similarity of two images.

    `kind` says which hash of the second image is meant: 0 is upright, 1 is mirrored, and those from
    2 on are crops.
    """
    greys = np.stack([np.frombuffer(hashes.grey, np.uint8) for hashes in (one, other)])
    (found,) = perceptual_hash.similarity(greys, np.array([0]), np.array([1]), kind)
    return found


@pytest.mark.parametrize(
    "copy",
    [
        hashed(scene(), quality=40),
        hashed(scene().resize((160, 128))),
        hashed(ImageEnhance.Brightness(scene()).enhance(0.7)),
        hashed(ImageEnhance.Contrast(scene()).enhance(0.7)),
    ],
    ids=["saved again", "half the size", "darker", "less contrast"],
)
def test_a_copy_is_alike(copy):
    assert similarity(ORIGINAL, copy, 0) > 0.98


@pytest.mark.parametrize(("left", "top"), [(0, 0), (16, 0), (5, 11), (16, 13)])
def test_a_crop_is_alike_in_the_kind_whose_hash_is_nearest(left, top):
    crop = hashed(scene().crop((left, top, left + 304, top + 243)))
    every = [ORIGINAL.crops[n : n + 32] for n in range(0, len(ORIGINAL.crops), 32)]
    nearest = 2 + int(np.argmin([distance(crop.upright, one) for one in every]))
    assert nearest < KINDS
    assert similarity(crop, ORIGINAL, nearest) > perceptual_hash.SIMILAR


def test_another_image_is_not_alike():
    others = [hashed(scene(seed)) for seed in range(1, 8)]
    assert max(similarity(ORIGINAL, other, 0) for other in others) < 0.5
