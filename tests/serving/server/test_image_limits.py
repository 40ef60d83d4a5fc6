"""Limits for the images of a request, from their headers alone."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imgpipe.serving.server import limits
from imgpipe.serving.server.status import Code, StatusError
from tests.images import encoded, noise
from tests.serving.test_image_header import chunk, compressed_texts, many_scans, png_bomb


def test_the_parts_of_all_images_of_a_request_are_limited_together():
    """Each of the files alone is within the limits."""
    empty = Image.new("P", (1, 1))
    gif = encoded(np.asarray(empty.convert("RGB")), "GIF")
    comments = gif[:-1] + b"\x21\xf9" + b"\1\0" * 200_000 + b"\0" + gif[-1:]
    files = {
        "GIF": comments,
        "PNG": png_bomb(1, 1)[:8] + chunk(b"abCd", b"") * 200_000 + png_bomb(1, 1)[8:],
        "JPEG": b"\xff\xd8" + b"\xff\xe1\0\2" * 9_000 + encoded(noise(1, (8, 8)), "JPEG")[2:],
        "scans": many_scans(20)[:-2] + b"\xff\xd0" * 200_000,
    }
    for kind, file in files.items():
        assert limits.row_pixels("image_bytes", np.array([file], object), 1000) != [0], kind
        many = np.array([file] * 64, object)
        with pytest.raises(StatusError, match="images of the request have too many parts"):
            limits.row_pixels("image_bytes", many, 1000)
    photos = np.array([encoded(noise(1, (200, 200)), "JPEG")] * 64, object)
    assert limits.row_pixels("image_bytes", photos, 1_000_000) == [40_000] * 64


def test_a_jpeg_of_unusually_many_scans_counts_for_each_five_of_them():
    """Twelve clients with files of 13 kB and 100 scans held up another for five seconds."""
    for added, times in ((0, 1), (4, 1), (20, 5), (94, 20)):
        file = np.array([many_scans(added)], object)
        assert limits.row_pixels("image_bytes", file, 1000) == [256 * times], added


def test_scans_behind_the_image_or_in_a_preview_do_not_count():
    """A photograph with five megabytes of a film behind it counted 13 times."""
    preview = many_scans(20)
    photo = encoded(noise(1, (40, 40)), "JPEG", comment=preview) + preview
    assert limits.row_pixels("image_bytes", np.array([photo], object), 10_000) == [1600]
    cut = many_scans(20)[:-2] + b"\xff\xda\0"
    assert limits.row_pixels("image_bytes", np.array([cut], object), 1000) == [5 * 256]


def test_a_lossless_webp_counts_by_its_bytes_as_it_may_have_many_tables():
    """Twelve clients with files of 0.6 MB and a million pixels held up another for five seconds."""
    file = encoded(noise(1, (100, 100)), "WEBP", lossless=True)
    row = np.array([file], object)
    assert limits.row_pixels("image_bytes", row, 1_000_000) == [55 * len(file)]
    many = np.repeat(row, 100)
    assert len(limits.row_pixels("image_bytes", many, 100_000)) == 100, "of 1 million pixels"
    usual = np.array([encoded(noise(1, (100, 100)), "WEBP")], object)
    assert limits.row_pixels("image_bytes", usual, 1_000_000) == [10_000]


@pytest.mark.parametrize("kind", [object, np.uint8])
def test_an_array_without_values_has_one_row_whatever_its_shape_says(kind):
    """A request of 55 bytes took 36 seconds and 4 GB."""
    assert limits.row_pixels("image_bytes", np.zeros((1 << 40, 0), kind), 1000) == [0]


@pytest.mark.parametrize("inside", [False, True])
def test_images_inside_examples_have_the_same_limit(inside):
    """Protobuf refuses a feature whose name is not UTF-8, and a graph accepts it."""
    data = png_bomb(12_000, 12_000)
    if inside:
        example = tf.train.Example()
        example.features.feature["image_bytes"].bytes_list.value.append(data)
        example.features.feature["zz"].bytes_list.value.append(b"door")
        data = example.SerializeToString().replace(b"zz", b"\xff\xfe")
    alias, value = "examples" if inside else "image_bytes", np.array([b"", data], object)
    with pytest.raises(
        StatusError, match=r"the image has 144\.0 million pixels; at most 50 million"
    ):
        limits.row_pixels(alias, value, 50_000_000)
    assert limits.row_pixels(alias, value, 200_000_000) == [0, 144_000_000]
    assert limits.row_pixels("names", value, 50_000_000) == [0, 0]


@pytest.mark.parametrize("nested", ["values", "features", "images", "numbers"])
def test_the_values_inside_of_examples_are_counted(nested):
    """Of 16 MB with 8 million empty values, 60 seconds and 2.2 GB were the price.

    The graph made 3 GB of 60 MB of packed numbers, which it then refused.
    """

    def field(number: int, content: bytes) -> bytes:
        length = len(content)
        head = [number << 3 | 2]
        while length > 0x7F:
            head.append(length & 0x7F | 0x80)
            length >>= 7
        return bytes([*head, length]) + content

    def example(values: bytes) -> bytes:
        feature = field(1, b"image_bytes") + field(2, field(1, values))
        return field(1, field(1, feature))

    many = 60_000
    rows = {
        "values": [example(b"\x0a\0" * many)] * 2,
        "features": [field(1, field(1, b"") * 2 * many)],
        "images": [example(b"\x0a\0" * 10)] * 12_000,
        "numbers": [field(1, field(1, field(2, field(3, field(1, bytes(2 * many))))))],
    }[nested]
    with pytest.raises(StatusError, match="more than 100,000 values") as error:
        limits.row_pixels("examples", np.array(rows, object), 50_000_000)
    assert error.value.code == Code.INVALID_ARGUMENT


@pytest.mark.parametrize("file", [many_scans(), compressed_texts()], ids=["JPEG", "PNG"])
@pytest.mark.parametrize("inside", [False, True])
def test_images_that_exhaust_a_decoder_are_refused(file, inside):
    alias = "image_bytes"
    if inside:
        example = tf.train.Example()
        example.features.feature["image_bytes"].bytes_list.value.append(file)
        alias, file = "examples", example.SerializeToString()
    value = np.array([b"", file], object)
    with pytest.raises(StatusError, match=r"the image has (.* scans|compressed texts)"):
        limits.check_hidden_costs({alias: value})
    limits.check_hidden_costs({"names": value})
