"""Thumbnails are small and re-encoded, and mistakes have the Grad-CAM of the exported model."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFile

from imgpipe.components.report.blocks import Picture
from imgpipe.components.report.pictures import thumbnails
from imgpipe.components.report.pictures.thumbnails import SIDE, Thumbnails, thumbnail
from tests.images import encoded, exif, noise, soft, turned
from tests.run_results import jpeg
from tests.serving.test_image_header import png_bomb


def opened(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize(("size", "shown"), [((640, 320), (SIDE, SIDE // 2)), ((28, 28), (28, 28))])
def test_the_longer_side_is_limited_and_proportions_are_kept(size, shown):
    with opened(thumbnail(jpeg(size=size))) as image:
        assert image.size == shown


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_shown_upright_as_the_model_sees_it(orientation):
    stored = soft(0, (600, 400))
    with opened(thumbnail(encoded(stored, "JPEG", exif=exif(orientation)))) as image:
        expected = Image.fromarray(turned(np.asarray(stored), orientation)).resize(image.size)
        assert np.abs(np.asarray(image, np.int64) - np.asarray(expected)).mean() < 4
    with opened(thumbnail(encoded(stored, "WEBP", exif=exif(orientation)))) as image:
        assert image.size == (SIDE, 320)


def noisy(side):
    """Return a JPEG of noise, of which a thumbnail has as many bytes as it can have."""
    return encoded(noise(size=(side, side)), "JPEG")


def test_an_enlarged_picture_is_sharp_or_has_the_size_of_its_file():
    files = {"large": noisy(600), "small": noisy(200)}
    made = Thumbnails(files, [Picture(key, key) for key in files])
    sizes = [opened(picture.large).size for picture in made.enlarged()]
    assert sizes == [(480, 480), (200, 200)]


def test_an_enlarged_picture_says_what_each_of_its_places_says():
    notes = ("labelled rock",), ("labelled rock", "answered paper")
    places = [Picture("a", "a.jpg", of_place) for of_place in notes]
    (picture,) = Thumbnails({"a": noisy(200)}, [*places, places[0]]).enlarged()
    assert picture.title == "a.jpg: labelled rock, answered paper", "each fact once"
    copy = Picture("a", "copy.jpg", ("duplicate",))
    (picture,) = Thumbnails({"a": noisy(200)}, [places[0], copy]).enlarged()
    assert picture.title == "a.jpg: labelled rock; copy.jpg: duplicate"


def test_pictures_become_smaller_once_the_page_holds_many_large_ones():
    data = noisy(500)
    pictures = [Picture(str(number), "noise") for number in range(600)]
    made = Thumbnails({picture.key: data for picture in pictures}, pictures)
    shown = [made.shown(picture) for picture in pictures]
    assert opened(shown[0].large).size == (SIDE, SIDE)
    assert shown[-1].large == "" and opened(shown[-1].small).size == (96, 96)
    assert sum(len(picture.large) + len(picture.small) for picture in shown) < 10_000_000


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("P", "GIF"), ("L", "BMP"), ("CMYK", "JPEG"), ("1", "PNG")]
)
def test_every_mode_has_a_thumbnail(mode, kind):
    assert thumbnail(encoded(Image.new(mode, (50, 40)), kind))


def test_a_truncated_file_has_a_thumbnail_and_the_pillow_setting_is_restored():
    data = encoded(Image.effect_noise((400, 400), 90), "JPEG")
    assert thumbnail(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_pixel_bomb_is_not_decoded():
    assert thumbnail(png_bomb(60_000, 60_000)) == ""


def test_damaged_files_have_a_thumbnail_or_none_and_raise_nothing(shared_data):
    files = (shared_data / "broken_images").iterdir()
    uris = {file.name: thumbnail(file.read_bytes()) for file in files}
    assert "" in uris.values() and len(set(uris.values())) > 100
    for name, uri in uris.items():
        assert uri == "" or uri.startswith("data:image/webp;base64,"), name


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """Return a SavedModel whose heat map is greatest at the right side of every image."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def cam(image_bytes):
        heat = tf.linspace(0.0, 1.0, 4)[None, None]
        return {"cam": tf.ones([tf.size(image_bytes), 1, 1]) * heat}

    module = tf.Module()
    module.cam = cam
    uri = tmp_path_factory.mktemp("model")
    tf.saved_model.save(module, str(Path(uri) / "Format-Serving"), signatures={"cam": cam})
    return str(uri / "Format-Serving")


def test_the_regions_that_speak_for_the_class_are_red(model):
    images = {f"{i}": encoded(np.full((20, 40 + i, 3), 90, np.uint8)) for i in range(9)}
    images["broken"] = b"no image"
    found = thumbnails.encoded_cams(model, images, [*images, "not there"])
    assert sorted(found) == sorted(thumbnails.cam_key(str(i)) for i in range(9))
    pixels = np.asarray(Image.open(io.BytesIO(found[thumbnails.cam_key("3")]))).astype(int)
    assert pixels.shape == (20, 43, 3)
    assert pixels[:, -4:, 0].mean() > pixels[:, -4:, 2].mean() + 50, "red at the right"
    assert pixels[:, :4, 2].mean() > pixels[:, :4, 0].mean(), "blue at the left"


def test_a_model_without_grad_cam_gives_no_heat_maps_and_a_warning(tmp_path, model, caplog):
    images = {"one": encoded(np.zeros((8, 8, 3), np.uint8))}
    assert thumbnails.encoded_cams(str(tmp_path), images, ["one"]) == {}
    assert "could not be explained with Grad-CAM" in caplog.text
    assert thumbnails.encoded_cams(str(tmp_path), images, ["another"]) == {}
