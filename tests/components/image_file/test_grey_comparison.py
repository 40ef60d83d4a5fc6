"""Small grey images of copies are alike and those of others are not, whatever their hashes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageEnhance, ImageOps

from imgpipe.components.image_file import grey_comparison
from imgpipe.components.image_file.grey_comparison import Pairs
from imgpipe.components.image_file.perceptual_hash import KINDS
from tests.components.image_file.test_perceptual_hash import hashed
from tests.images import distance, scene


def similarity(one, other, kind):
    """Return the similarity of two images.

    `kind` says which hash of the second image is meant: 0 is upright, 1 is mirrored, and those from
    2 on are crops.
    """
    greys = np.stack([np.frombuffer(hashes.grey, np.uint8) for hashes in (one, other)])
    (found,) = grey_comparison.similarity(greys, np.array([0]), np.array([1]), kind)
    return found


ORIGINAL = hashed(scene(), "PNG")


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


def test_a_mirrored_copy_is_alike_only_if_compared_as_mirrored():
    mirrored = hashed(ImageOps.mirror(scene()), "PNG")
    assert similarity(mirrored, ORIGINAL, 1) > 0.98
    assert similarity(mirrored, ORIGINAL, 0) < 0.5


@pytest.mark.parametrize(("left", "top"), [(0, 0), (16, 0), (5, 11), (16, 13)])
def test_a_crop_is_alike_in_the_kind_whose_hash_is_nearest(left, top):
    crop = hashed(scene().crop((left, top, left + 304, top + 243)))
    every = [ORIGINAL.crops[n : n + 32] for n in range(0, len(ORIGINAL.crops), 32)]
    nearest = 2 + int(np.argmin([distance(crop.upright, one) for one in every]))
    assert nearest < KINDS
    assert similarity(crop, ORIGINAL, nearest) > grey_comparison.SIMILAR


def test_another_image_is_not_alike():
    others = [hashed(scene(seed)) for seed in range(1, 8)]
    assert max(similarity(ORIGINAL, other, 0) for other in others) < 0.5


def test_equal_hashes_of_whole_images_need_no_confirmation_and_those_of_crops_do():
    greys = np.stack([np.frombuffer(one.grey, np.uint8) for one in (ORIGINAL, hashed(scene(1)))])
    first, second = np.zeros(4, np.int64), np.ones(4, np.int64)
    pairs = Pairs(first, second, np.array([0, 1, 5, 0]), np.array([8, 0, 0, 9]))
    assert grey_comparison.alike(greys, pairs).tolist() == [True, True, False, False]
