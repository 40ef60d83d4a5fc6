"""The comparison of grey images: copies are alike, other images are not, whatever their hashes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageEnhance, ImageOps

from imgpipe.components.image_file import grey_comparison
from imgpipe.components.image_file.perceptual_hash import KINDS, distance
from tests.components.image_file.test_perceptual_hash import hashed, scene


def grey(hashes):
    return np.frombuffer(hashes.grey, np.uint8)[None]


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
    assert grey_comparison.similarity(grey(ORIGINAL), grey(copy), 0)[0] > 0.98


def test_a_mirrored_copy_is_alike_in_its_kind_alone():
    mirrored = hashed(ImageOps.mirror(scene()), "PNG")
    assert grey_comparison.similarity(grey(mirrored), grey(ORIGINAL), 1)[0] > 0.98
    assert grey_comparison.similarity(grey(mirrored), grey(ORIGINAL), 0)[0] < 0.5


@pytest.mark.parametrize(("left", "top"), [(0, 0), (16, 0), (5, 11), (16, 13)])
def test_a_crop_is_alike_in_the_kind_whose_hash_is_nearest(left, top):
    crop = hashed(scene().crop((left, top, left + 304, top + 243)))
    every = [ORIGINAL.crops[n : n + 32] for n in range(0, len(ORIGINAL.crops), 32)]
    nearest = 2 + int(np.argmin([distance(crop.upright, one) for one in every]))
    assert nearest < KINDS
    found = grey_comparison.similarity(grey(crop), grey(ORIGINAL), nearest)
    assert found[0] > grey_comparison.SIMILAR


def test_another_image_is_not_alike():
    others = np.concatenate([grey(hashed(scene(seed))) for seed in range(1, 8)])
    found = grey_comparison.similarity(np.repeat(grey(ORIGINAL), 7, axis=0), others, 0)
    assert found.max() < 0.5


def test_equal_hashes_of_whole_images_need_no_confirmation_and_those_of_crops_do():
    one, other = grey(ORIGINAL), grey(hashed(scene(1)))
    kinds, bits = np.array([0, 1, 5, 0]), np.array([8, 0, 0, 9])
    found = grey_comparison.alike(one.repeat(4, axis=0), other.repeat(4, axis=0), kinds, bits)
    assert found.tolist() == [True, True, False, False]
