"""Copies that were saved again, cropped or altered are found, and other images are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from imgpipe.components.common.image_file.pixels import ALL_BYTES, Pixels, perceptual_hashes
from imgpipe.components.image_filter.copies.search import find_near_duplicates, hash_table
from imgpipe.components.image_filter.judge.checks.whole_set import RADIUS
from tests.images import encoded, scene

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
    """Add noise of 20 grey levels."""
    values = np.asarray(image).astype(float)
    values += np.random.default_rng(0).normal(0, 20, values.shape)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def near_duplicates(hashes):
    """Return the near-duplicates among images with these hashes by name."""
    return find_near_duplicates(*hash_table(hashes, hashes.values()), RADIUS)


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
    found = near_duplicates({**HASHES, **copies})
    for name in ORIGINALS:
        copy = f"copy of {name}"
        assert found.groups[name] == found.groups[copy]
        if how:
            assert how in found.altered[copy][name] and how in found.altered[name][copy]
    assert len(set(found.groups.values())) == len(ORIGINALS)


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
    assert near_duplicates({**HASHES, **hashes}).groups == {}
    groups = near_duplicates(
        {**hashes, **{f"{name} again": hashes[name] for name in hashes}}
    ).groups
    assert len(groups) == 2 * len(set(groups.values())) == 2 * len(images)
    assert all(groups[name] == groups[f"{name} again"] for name in images)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (28, 28), (641, 479), (5000, 40)])
def test_an_image_of_any_size_has_all_hashes(size):
    assert len(hashed(scene(size=size))) == ALL_BYTES
