"""The search finds all groups within a radius and no others, in any order of the images."""

import numpy as np
import pytest

from imgpipe.components.common.image_file.content import decode
from imgpipe.components.common.image_file.pixels import (
    ALL_BYTES,
    BYTES,
    Pixels,
    perceptual_hashes,
)
from imgpipe.components.image_filter.copies.search import Hashes, search
from imgpipe.components.image_filter.judge.checks.whole_set import RADIUS
from imgpipe.serving.look import Look
from tests.images import distance


def drawn(count):
    """Return random perceptual hashes of `count` images, uint8 [count, `ALL_BYTES`]."""
    return np.random.default_rng(0).integers(0, 256, (count, ALL_BYTES), np.uint8)


def changed(hashes, flips, rng):
    """Return the hashes of an image with `flips` random bits of the upright hash flipped."""
    bits = np.unpackbits(hashes)
    bits[rng.choice(256, flips, replace=False)] ^= 1
    return np.packbits(bits)


def groups(hashes):
    """Return the first image of each image's group, a list of n indices."""
    return search(Hashes(np.stack(hashes)), RADIUS).tolist()


def test_recall_of_pairs_among_20_000():
    originals = drawn(18_500)
    rng = np.random.default_rng(1)
    flips = np.repeat([0, 20, 40], 500)
    copies = [changed(image, count, rng) for image, count in zip(originals, flips, strict=False)]
    found = np.array(groups([*originals, *copies]))
    right = found[:1_500] == found[18_500:]
    for count, recall in ((0, 1.0), (20, 0.99), (40, 0.95)):
        assert right[flips == count].mean() >= recall


def test_a_chain_of_near_duplicates_is_one_group():
    rng = np.random.default_rng(2)
    (one,) = drawn(1)
    two = changed(one, 30, rng)
    three = changed(two, 30, rng)
    assert distance(one[:BYTES], three[:BYTES]) > RADIUS
    assert groups([one, two, three]) == [0, 0, 0]


def pictured(pixels):
    """Return the hashes and the grey image of uint8 pixels [H, W]."""
    hashes = perceptual_hashes(Pixels(np.repeat(pixels[..., None], 3, axis=2)))
    return np.frombuffer(hashes, np.uint8)


@pytest.mark.parametrize("count", [300, 1100], ids=["all pairs", "sorted"])
@pytest.mark.parametrize("noise", [0, 10])
def test_a_crop_of_another_image_is_found(count, noise):
    """Crops of 95 % of each side are found, wherever they begin."""
    rng = np.random.default_rng(4)
    blocks = rng.integers(40, 216, (count, 16, 16), np.uint8)
    images = [np.kron(image, np.ones((10, 10))) for image in blocks]
    crops = [images[n][n % 9 :, n % 7 :][:152, :152] for n in range(50)]
    noisy = [crop + rng.uniform(-noise, noise, crop.shape) for crop in crops]
    found = groups([pictured(image.astype(np.uint8)) for image in (*images, *noisy)])
    assert np.mean([found[count + n] == n for n in range(50)]) >= 0.9
    assert found[:count] == list(range(count)), "nothing else is near"


def in_front_of_a_wall(count):
    """Return `count` images of one wall, uint8 [64, 64] each.

    They differ greatly in a part of 24 x 24 pixels, and all other pixels are equal.
    """
    rng = np.random.default_rng(7)
    wall = (np.kron(rng.integers(0, 2, (16, 16)), np.ones((4, 4))) * 8 + 200).astype(np.uint8)
    images = []
    for _ in range(count):
        image = wall.copy()
        side = 24
        hand = rng.integers(0, 256, (side // 4, side // 4))
        image[16 : 16 + side, 16 : 16 + side] = np.kron(hand, np.ones((4, 4)))
        images.append(image)
    return images


@pytest.mark.parametrize("count", [40, 1100], ids=["all pairs", "sorted"])
def test_images_with_the_same_background_are_not_near_duplicates(count):
    """The hashes of such images are within the radius, whatever the size of the set."""
    images = in_front_of_a_wall(count)
    hashes = [pictured(image) for image in images]
    distances = [distance(hashes[0][:BYTES], other[:BYTES]) for other in hashes[1:]]
    assert np.median(distances) <= RADIUS
    copy = pictured((images[3] * 0.9).astype(np.uint8))
    assert groups([*hashes, copy]) == [*range(count), 3]


def _hashes(*folders):
    """Return the JPEG files of the folders and their hashes."""
    paths = sorted(path for folder in folders for path in folder.rglob("*.jpg"))
    rows = [perceptual_hashes(Pixels(decode(Look(path.read_bytes())))) for path in paths]
    return paths, np.frombuffer(b"".join(rows), np.uint8).reshape(len(paths), -1)


@pytest.mark.slow
def test_every_reencoded_photograph_is_found_and_no_other(shared_data):
    folders = (shared_data / "cats_dogs", shared_data / "cats_dogs_reencoded")
    paths, hashes = _hashes(*folders)
    found = search(Hashes(hashes), RADIUS)
    members = {}
    for path, group in zip(paths, found.tolist(), strict=True):
        members.setdefault(group, []).append(path)
    several = [group for group in members.values() if len(group) > 1]
    reencoded = {path for group in several for path in group if path.is_relative_to(folders[1])}
    assert len(reencoded) == 62 == len(list(folders[1].rglob("*.jpg")))
    wrong = [g for g in several if len({path.name for path in g}) > 1]
    # These two files show the same photograph.
    assert [[path.name for path in group] for group in wrong] == [
        ["dog.10401.jpg", "dog.10797.jpg"]
    ]
