"""Tests of decoding and resizing, which is one function for all formats."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imgpipe.models import preprocess
from tests.images import encoded, exif, noise, soft, turned


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_every_served_format_is_decoded(format: str) -> None:
    pixels = preprocess.decode(encoded(soft(1, (31, 17)), format))
    assert pixels.shape == (17, 31, 3) and pixels.dtype == "uint8"


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_every_mode_is_converted_to_rgb_of_8_bits(mode: str) -> None:
    data = encoded(Image.new(mode, (9, 5)), "JPEG" if mode == "CMYK" else "PNG")
    assert preprocess.decode(data).shape == (5, 9, 3)


def test_the_first_frame_of_an_animation_is_decoded() -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    pixels = preprocess.decode(data).numpy()
    assert pixels.shape == (8, 8, 3)
    assert pixels[4, 4].tolist() == [255, 0, 0]


def test_resized_pixels_keep_the_range_0_to_255() -> None:
    pixels = preprocess.decode(encoded(soft(2, (300, 200)), "JPEG"), 64).numpy()
    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert 100 < pixels.max() <= 255


def test_an_image_of_the_right_size_is_not_changed() -> None:
    data = encoded(soft(3, (64, 64)))
    resized = preprocess.decode(data, 64).numpy()
    np.testing.assert_array_equal(resized, preprocess.decode(data).numpy())


def test_a_batch_equals_its_images() -> None:
    images = [encoded(soft(seed, (40 + seed, 50)), "JPEG") for seed in range(5)]
    batch = preprocess.batch_decode(images, 32).numpy()
    single = [preprocess.decode(image, 32).numpy() for image in images]
    np.testing.assert_array_equal(batch, single)
    assert preprocess.batch_decode(tf.zeros([0], tf.string), 32).shape == (0, 32, 32, 3)


def test_photographs_are_turned_as_pillow_turns_them(shared_data: Path) -> None:
    photographs = sorted((shared_data / "cats_dogs").rglob("*.jpg"))[::100]
    if not photographs:
        pytest.skip("needs ../shared/data/cats_dogs")
    for number, photograph in enumerate(photographs):
        data = photograph.read_bytes()
        stored = preprocess.decode(data).numpy()
        # Before the JFIF segment, as a camera writes it, or behind it, as Pillow does.
        at = 20 if number % 2 and data[2:4] == b"\xff\xe0" else 2
        for order in "<>":
            for orientation in range(1, 9):
                block = exif(orientation, order)
                segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
                pixels = preprocess.decode(data[:at] + segment + data[at:]).numpy()
                np.testing.assert_array_equal(pixels, turned(stored, orientation))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about broken blocks
def test_a_broken_exif_block_is_upright_or_turned_as_pillow_turns_it() -> None:
    pixels = noise(0, (16, 8))
    chance, stored, agreed = random.Random(0), None, 0
    for _ in range(400):
        orientation = chance.randint(1, 8)
        data = bytearray(encoded(pixels, "JPEG", exif=exif(orientation, chance.choice("<>"))))
        stored = preprocess.decode(encoded(pixels, "JPEG")).numpy() if stored is None else stored
        block = data.index(b"Exif")
        for _ in range(chance.choice([1, 2, 5])):
            data[block + chance.randrange(32)] = chance.randrange(256)
        found = preprocess.decode(bytes(data)).numpy()
        with Image.open(io.BytesIO(data)) as image:
            value = image.getexif().get(0x0112, 1)
        expected = turned(stored, value) if isinstance(value, int) else stored
        same = np.array_equal(found, expected)
        assert same or np.array_equal(found, stored), bytes(data[: block + 40])
        agreed += same
    assert agreed > 390


@pytest.mark.parametrize("cut", [4, 12, 24, 30, 36, 44, 52])
def test_a_header_that_ends_early_is_no_error_of_the_turn(cut: int) -> None:
    data = encoded(noise(0, (16, 8)), "JPEG", exif=exif(6))[:cut]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid JPEG data"):
        preprocess.decode(data)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_other_formats_are_not_turned(format: str) -> None:
    data = encoded(noise(0, (16, 8)), format, exif=exif(6), lossless=True)
    np.testing.assert_array_equal(preprocess.decode(data).numpy(), noise(0, (16, 8)))
