"""Limits for the images of a request, from their headers alone."""

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.serving.server import limits
from imgpipe.serving.server.status import Code, StatusError
from tests.images import encoded, noise
from tests.serving.test_image_header import compressed_texts, many_scans, png_bomb

MOST = 50_000_000


def example(*images: bytes) -> bytes:
    made = tf.train.Example()
    for number, image in enumerate(images):
        made.features.feature[f"image_{number}"].bytes_list.value.append(image)
    return made.SerializeToString()


def pixels(alias: str, *rows: bytes, most: int = MOST) -> int:
    return limits.checked_pixels({alias: np.array(rows, object)}, most)


def test_the_pixels_of_all_images_are_counted():
    photo = encoded(noise(1, (200, 300)), "JPEG")
    assert pixels("image_bytes", photo, photo) == 120_000
    assert pixels("examples", example(photo, b"door"), example(photo)) == 120_000
    assert pixels("names", photo) == 0, "an input of another name holds no images"
    assert pixels("image_bytes", photo, most=0) == 0, "without a limit none are counted"
    assert limits.checked_pixels({"image_bytes": np.zeros((1 << 40, 0), object)}, MOST) == 0


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("file", "words"),
    [
        (png_bomb(12_000, 12_000), r"the image has 144\.0 million pixels; at most 50 million"),
        (many_scans(), "the image has 206 scans, more than 100"),
        (compressed_texts(), "the image has compressed texts or profiles of more than 4 MiB"),
        (b"\xff\x0a" + bytes(90), "JPEG XL, a format that is not accepted. Save the image as"),
    ],
    ids=["bomb", "scans", "texts", "JPEG XL"],
)
def test_images_that_exhaust_a_decoder_are_refused(file, words, inside):
    alias, value = ("examples", example(file)) if inside else ("image_bytes", file)
    with pytest.raises(StatusError, match=words) as error:
        pixels(alias, example() if inside else encoded(noise(1), "PNG"), value)
    assert error.value.code == Code.INVALID_ARGUMENT


def test_many_large_images_are_refused_together():
    with pytest.raises(StatusError, match="have 816 million pixels; 800 million are allowed"):
        pixels("image_bytes", *[png_bomb(6000, 8000)] * 17)


def test_what_is_no_example_is_refused_before_the_graph_reads_it():
    """The graph made gigabytes of packed numbers and of empty values, which it then refused."""
    numbers = tf.train.Example()
    numbers.features.feature["x"].int64_list.value.extend([1] * (9 << 20))
    values = tf.train.Example()
    values.features.feature["x"].bytes_list.value.extend([b""] * 120_000)
    for row, words in (
        (b"\xff\xff", "expected serialized tf.Examples"),
        (numbers.SerializeToString(), "more than 8 MiB of numbers"),
        (values.SerializeToString(), "more than 100,000 values"),
    ):
        with pytest.raises(StatusError, match=words):
            pixels("examples", row)
