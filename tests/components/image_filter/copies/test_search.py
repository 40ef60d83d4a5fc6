"""The search finds all groups of copies, also altered ones, and no others, in any order."""

import functools
import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from imgpipe.components.common.image_file.content import decode
from imgpipe.components.common.image_file.pixels import ALL_BYTES, BYTES, Pixels, perceptual_hashes
from imgpipe.components.image_filter.copies.search import (
    Hashes,
    find_near_duplicates,
    search,
)
from imgpipe.components.image_filter.judge.checks.quality import RADIUS
from imgpipe.serving.look import Look
from tests.images import distance, encoded, scene


def drawn(count):
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


@functools.cache
def blocks(count):
    """Return `count` images of 16 x 16 grey blocks, and their hashes."""
    drawn_blocks = np.random.default_rng(4).integers(40, 216, (count, 16, 16), np.uint8)
    images = [np.kron(image, np.ones((10, 10), np.uint8)) for image in drawn_blocks]
    return images, [pictured(image) for image in images]


@pytest.mark.parametrize("count", [300, 1100], ids=["all pairs", "sorted"])
@pytest.mark.parametrize("noise", [0, 10])
def test_a_crop_of_another_image_is_found(count, noise):
    """Crops of 95 % of each side are found, wherever they begin."""
    images, hashes = blocks(count)
    rng = np.random.default_rng(5)
    crops = [images[n][n % 9 :, n % 7 :][:152, :152] for n in range(50)]
    noisy = [crop + rng.uniform(-noise, noise, crop.shape) for crop in crops]
    found = groups([*hashes, *(pictured(crop.astype(np.uint8)) for crop in noisy)])
    assert np.mean([found[count + n] == n for n in range(50)]) >= 0.9
    assert found[:count] == list(range(count)), "nothing else is near"


def in_front_of_a_wall(count):
    """Return images of one wall, uint8 [64, 64], that differ in a part of 24 x 24 pixels."""
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


@pytest.mark.slow
def test_every_reencoded_photograph_is_found_and_no_other(shared_data):
    folders = (shared_data / "cats_dogs", shared_data / "cats_dogs_reencoded")
    paths = sorted(path for folder in folders for path in folder.rglob("*.jpg"))
    rows = [perceptual_hashes(Pixels(decode(Look(path.read_bytes())))) for path in paths]
    hashes = np.frombuffer(b"".join(rows), np.uint8).reshape(len(paths), -1)
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


SIZE = (320, 240)
ORIGINALS = {f"{seed}": scene(seed, SIZE) for seed in range(30)}


def hashed(image):
    return perceptual_hashes(Pixels(np.asarray(image.convert("RGB"))))


HASHES = {name: hashed(image) for name, image in ORIGINALS.items()}


def shifted(image, right, down):
    """Shift an image by shares of its sides; its edges fill the rest, as Keras does."""
    rows = np.arange(image.height) - round(down * image.height)
    columns = np.arange(image.width) - round(right * image.width)
    values = np.asarray(image)
    values = values[rows.clip(0, image.height - 1)][:, columns.clip(0, image.width - 1)]
    return Image.fromarray(values)


def noisy(image):
    values = np.asarray(image).astype(float)
    values += np.random.default_rng(0).normal(0, 20, values.shape)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def near_duplicates(hashes):
    """Return the groups by name, and how altered copies were changed by two names."""
    names = [*hashes]
    pictures = np.frombuffer(b"".join(hashes.values()), np.uint8).reshape(len(names), -1)
    found = find_near_duplicates(pictures, RADIUS)
    groups = {
        name: group for name, group in zip(names, found.groups.tolist(), strict=True) if group
    }
    altered = {
        names[one]: {names[other]: how for other, how in others.items()}
        for one, others in found.altered.items()
    }
    return groups, altered


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda image: image.transpose(Image.Transpose.ROTATE_90), "turned by 90 degrees"),
        (lambda image: image.transpose(Image.Transpose.ROTATE_270), "turned by 90 degrees"),
        (lambda image: image.transpose(Image.Transpose.ROTATE_180), "upside down"),
        (ImageOps.flip, "mirrored and upside down"),
        (lambda image: image.transpose(Image.Transpose.TRANSPOSE), "mirrored and turned by"),
        (lambda image: image.rotate(10, Image.Resampling.BILINEAR), "tilted by about 10 degrees"),
        (lambda image: image.rotate(-7, Image.Resampling.BILINEAR), "tilted by about"),
        (lambda image: shifted(image, 0.1, 0), "shifted"),
        (lambda image: shifted(image, -0.05, 0.1), "shifted"),
        (lambda image: ImageOps.expand(image, 24, "white"), "zoomed or put into a frame"),
        (lambda image: ImageOps.mirror(image).rotate(10), "mirrored and tilted by about 10"),
        (noisy, ""),
        (lambda image: image.resize((160, 120)), ""),
        (lambda image: ImageEnhance.Brightness(image).enhance(0.6), ""),
        (lambda image: ImageEnhance.Brightness(image).enhance(1.2), ""),
        (lambda image: ImageEnhance.Contrast(image).enhance(0.7), ""),
        (lambda image: Image.open(io.BytesIO(encoded(image, "JPEG", quality=40))), ""),
        *(
            (lambda image, box=(left, top, left + 304, top + 228): image.crop(box), "")
            for left, top in ((0, 0), (16, 0), (5, 11), (16, 12), (9, 3))
        ),
        (lambda image: image.crop((9, 0, 313, 240)), ""),
    ],
)
def test_an_altered_copy_is_found_and_named(change, how):
    copies = {f"copy of {name}": hashed(change(image)) for name, image in ORIGINALS.items()}
    groups, altered = near_duplicates({**HASHES, **copies})
    for name in ORIGINALS:
        copy = f"copy of {name}"
        assert groups[name] == groups[copy]
        if how:
            assert how in altered[copy][name] and how in altered[name][copy]
    assert len(set(groups.values())) == len(ORIGINALS)


def test_of_plain_images_only_those_with_the_same_pixels_are_copies():
    ramp = np.linspace(0, 255, 120)
    plain = {
        "ramp": np.tile(ramp, (90, 1)),
        "darker to the right": np.tile(ramp[::-1], (90, 1)),
        "turned ramp": np.tile(ramp, (90, 1)).T,
        "vignette": np.minimum(np.add.outer((ramp - 128) ** 2, (ramp - 128) ** 2) / 128, 255),
        "darker vignette": np.minimum(
            np.add.outer((ramp - 128) ** 2, (ramp - 100) ** 2) / 160, 255
        ),
        "white": np.full((90, 120), 255.0),
    }
    images = {name: Image.fromarray(grey.astype(np.uint8)) for name, grey in plain.items()}
    images |= {name: Image.new("RGB", (64, 64), name) for name in ("red", "green")}
    images["long green"] = Image.new("RGB", (32, 128), "green")
    hashes = {name: hashed(image) for name, image in images.items()}
    assert near_duplicates({**HASHES, **hashes})[0] == {}
    groups, _ = near_duplicates({**hashes, **{f"{name} again": hashes[name] for name in hashes}})
    assert len(groups) == 2 * len(set(groups.values())) == 2 * len(images)
    assert all(groups[name] == groups[f"{name} again"] for name in images)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (28, 28), (641, 479), (5000, 40)])
def test_an_image_of_any_size_has_all_hashes(size):
    assert len(hashed(scene(size=size))) == ALL_BYTES
