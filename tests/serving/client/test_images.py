"""Crops and arrays are sent to the server with exactly the expected pixels."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from imgpipe.serving.client import Box, InvalidArgument
from imgpipe.serving.client.images import content_of, cropped, files_of, size_of
from tests.images import encoded, noise


def pixels(content: bytes) -> np.ndarray:
    """Decode an encoded image to an array of its pixels."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@pytest.fixture
def photo() -> np.ndarray:
    """Return pixels of noise for an image of 64 x 40 pixels."""
    return noise(size=(64, 40))


def test_a_box_is_given_in_pixels_or_as_shares_of_the_sides():
    assert Box.of("1,2,30,40").pixels(64, 40) == (1, 2, 30, 40)
    assert Box.of("0.25,0.5,0.75,1").pixels(64, 40) == (16, 20, 48, 40)
    assert Box.of((0, 0, 1, 1)).pixels(64, 40) == (0, 0, 64, 40)
    assert Box.of(Box(1, 2, 3, 4)) == Box(1, 2, 3, 4)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,3,nan", None])
def test_values_that_are_not_four_numbers_are_refused_as_a_box(text):
    with pytest.raises(InvalidArgument, match="LEFT,TOP,RIGHT,BOTTOM"):
        Box.of(text)


@pytest.mark.parametrize("text", ["3,0,2,5", "0,5,9,5", "-1,0,5,5"])
def test_an_empty_or_negative_box_is_refused(text):
    with pytest.raises(InvalidArgument, match="0 <= left < right"):
        Box.of(text)


@pytest.mark.parametrize(
    ("box", "words"), [("0,0,65,40", "extends beyond"), ("0.001,0,0.002,1", "contains no pixel")]
)
def test_a_box_must_lie_inside_the_image(box, words):
    with pytest.raises(InvalidArgument, match=rf"{words}( of)? the image \(64 x 40 pixels\)"):
        Box.of(box).pixels(64, 40)


def test_cropping_changes_no_pixel(photo):
    cut = cropped(content_of(photo), Box(3, 5, 33, 25))
    np.testing.assert_array_equal(pixels(cut), photo[5:25, 3:33])


def test_sixteen_bit_images_are_reduced_to_eight_bits_as_in_tensorflow():
    import tensorflow as tf

    deep = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    content = encoded(deep)
    cut = cropped(content, Box(0, 0, 32, 32))
    opened = content_of(Image.open(io.BytesIO(content)))
    theirs = tf.io.decode_image(content, channels=3).numpy()
    for ours in (cut, opened):
        assert np.abs(pixels(ours).astype(int) - theirs).max() <= 1


def test_files_and_pillow_images_that_cannot_be_read_are_refused(photo):
    closed = io.BytesIO(encoded(photo))
    closed.close()
    cut_off = Image.open(io.BytesIO(encoded(photo)[:2000]))
    for image, words in (
        (closed, "closed file"),
        (cut_off, "truncated"),
        (Image.new("RGB", (0, 0)), "empty image"),
        ("a\0b.png", "null byte"),
    ):
        assert size_of(image) >= 0
        with pytest.raises(InvalidArgument, match=f"cannot be read as an image file: .*{words}"):
            content_of(image)


def test_the_exif_orientation_is_not_applied(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    cut = cropped(encoded(photo, exif=exif), Box(0, 0, 64, 40))
    np.testing.assert_array_equal(pixels(cut), photo)
    with Image.open(io.BytesIO(cut)) as image:
        assert not image.getexif()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_bytes_that_are_not_an_image_cannot_be_cropped(content):
    with pytest.raises(InvalidArgument, match="cannot be opened for cropping"):
        cropped(content, Box(0, 0, 1, 1))


def test_arrays_are_encoded_without_loss(photo):
    np.testing.assert_array_equal(pixels(content_of(photo)), photo)
    np.testing.assert_array_equal(pixels(content_of(photo[:, :, 0])), photo[:, :, 0])
    np.testing.assert_array_equal(pixels(content_of(photo[:, :, :1])), photo[:, :, 0])
    np.testing.assert_array_equal(pixels(content_of(photo[::2, ::-1])), photo[::2, ::-1])


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)],
)
def test_arrays_of_other_types_or_shapes_are_refused(array):
    with pytest.raises(InvalidArgument, match=r"uint8 \[height, width, 3\]"):
        content_of(array)


def test_files_of_folders_are_sorted_and_hidden_files_are_skipped(tmp_path):
    for name in ("b/2.jpg", "b/1.jpg", "a.txt", ".hidden/x.jpg", "b/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in files_of([tmp_path])]
    assert found == ["a.txt", "b/1.jpg", "b/2.jpg"]
    assert files_of(["nowhere.jpg"])[0].name == "nowhere.jpg", "its reader says what is wrong"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="empty contains no files"):
        files_of([tmp_path / "empty"])


def test_pipes_in_folders_are_left_out_because_reading_them_never_ends(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "photo.jpg").touch()
    found = [path.name for path in files_of([tmp_path])]
    assert found == ["broken.jpg", "photo.jpg"], "a broken link is reported when it is read"
    assert files_of([tmp_path / "pipe"]) == [tmp_path / "pipe"], "a pipe that is named is read"
