"""Arrays and Pillow images are sent to the server with exactly the expected pixels."""

import io
import os
import sys

import numpy as np
import pytest
from PIL import Image

from imgpipe.components.common.image_file.header import by_pillow
from imgpipe.models import preprocess
from imgpipe.serving.client import InvalidArgument
from imgpipe.serving.client.images import content_of, files_of, size_of
from imgpipe.serving.look import Look
from tests.components.common.image_file.test_heic import PHOTOGRAPH
from tests.images import encoded, exif, noise, soft


def pixels(content: bytes) -> np.ndarray:
    """Decode an encoded image to an array of its pixels."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@pytest.fixture
def photo() -> np.ndarray:
    """Return pixels of noise for an image of 64 x 40 pixels."""
    return noise(size=(64, 40))


def test_sixteen_bit_images_are_reduced_to_eight_bits_as_in_tensorflow():
    import tensorflow as tf

    deep = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    content = encoded(deep)
    ours = pixels(content_of(Image.open(io.BytesIO(content))))[:, :, 0]
    theirs = tf.io.decode_image(content, channels=1).numpy()[:, :, 0]
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pillow_images_are_turned_as_their_files_are(kind, orientation):
    file = encoded(soft(2), kind, exif=exif(orientation))
    as_the_model_sees_it = preprocess.decode(file).numpy().astype(int)
    sent = pixels(content_of(Image.open(io.BytesIO(file))))
    assert sent.shape == as_the_model_sees_it.shape
    assert np.abs(sent - as_the_model_sees_it).mean() < 2  # two decoders of JPEG
    if kind == "JPEG":
        converted = Image.open(io.BytesIO(file)).convert("RGB")
        np.testing.assert_array_equal(pixels(content_of(converted)), sent)


def test_pillow_images_whose_white_is_unknown_are_refused_as_in_training():
    for image, words in (
        (Image.new("F", (8, 8), 0.5), "floating-point numbers; scale them to 8 bits"),
        (Image.new("I", (8, 8), 70_000), "between 70000 and 70000; scale them to 8 or 16 bits"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            content_of(image)
    assert (pixels(content_of(Image.new("I", (8, 8), 0x4567))) == 0x45).all()


def test_files_and_pillow_images_that_cannot_be_read_are_refused(photo):
    cut_off = Image.open(io.BytesIO(encoded(photo)[:2000]))
    for image, words in (
        (cut_off, "truncated"),
        (Image.new("RGB", (0, 0)), "empty image"),
        ("a\0b.png", "null byte"),
    ):
        assert size_of(image, 0) >= 0
        with pytest.raises(InvalidArgument, match=f"cannot be read as an image file: .*{words}"):
            content_of(image)


def test_arrays_are_encoded_without_loss(photo):
    np.testing.assert_array_equal(pixels(content_of(photo)), photo)
    np.testing.assert_array_equal(pixels(content_of(photo[:, :, 0])), photo[:, :, 0])
    np.testing.assert_array_equal(pixels(content_of(photo[:, :, :1])), photo[:, :, 0])
    np.testing.assert_array_equal(pixels(content_of(photo[::2, ::-1])), photo[::2, ::-1])


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)]
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
    os.mkfifo(tmp_path / "b" / "pipe")  # reading it would never end
    (tmp_path / "b" / "3.jpg").symlink_to("nowhere")
    assert files_of([tmp_path / "b"])[-1].name == "3.jpg", "it is reported when it is read"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="empty contains no files"):
        files_of([tmp_path / "empty"])


def test_a_photograph_of_an_iphone_is_converted_where_its_package_is_installed(monkeypatch):
    pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    upright, _ = by_pillow(Look(PHOTOGRAPH))
    ours = pixels(content_of(PHOTOGRAPH))
    np.testing.assert_array_equal(ours, upright, "as for a model in this process")
    with pytest.raises(InvalidArgument, match="cannot be read as an image file"):
        content_of(PHOTOGRAPH[:300])
    monkeypatch.setattr("imgpipe.serving.client.images.PIXEL_LIMIT", 1000)
    with pytest.raises(InvalidArgument, match="million pixels"):
        content_of(PHOTOGRAPH)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(InvalidArgument, match=r"file is HEIC, .* pip install pi-heif\. Or, to get"):
        content_of(PHOTOGRAPH)
