"""Tests of decoding and resizing, which is one function for all formats."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imgpipe.models import preprocess
from tests.images import encoded


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_every_served_format_is_decoded(draw, format: str) -> None:
    pixels = preprocess.decode(draw(1, (31, 17), format))
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


def test_resized_pixels_keep_the_range_0_to_255(draw) -> None:
    pixels = preprocess.decode_and_resize(draw(2, (300, 200)), 64).numpy()
    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert 100 < pixels.max() <= 255


def test_an_image_of_the_right_size_is_not_changed(draw) -> None:
    encoded = draw(3, (64, 64), "PNG")
    resized = preprocess.decode_and_resize(encoded, 64).numpy()
    np.testing.assert_array_equal(resized, preprocess.decode(encoded).numpy())


def test_a_batch_equals_its_images(draw) -> None:
    images = [draw(seed, (40 + seed, 50)) for seed in range(5)]
    batch = preprocess.batch_decode(images, 32).numpy()
    single = [preprocess.decode_and_resize(image, 32).numpy() for image in images]
    np.testing.assert_array_equal(batch, single)


def test_an_empty_batch_is_empty() -> None:
    import tensorflow as tf

    assert preprocess.batch_decode(tf.zeros([0], tf.string), 32).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("cut", "message"),
    [(0, "Input is empty"), (10, "Invalid JPEG data"), (200, "Invalid JPEG data")],
)
def test_undecodable_bytes_are_an_invalid_argument(draw, cut: int, message: str) -> None:
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        preprocess.decode(draw(4)[:cut])
