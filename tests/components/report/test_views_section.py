"""Augmented views on the page: which images are chosen, their description and their pixels."""

import base64
import hashlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgpipe.components.report import augmented_views
from imgpipe.components.report.sections import training as views
from imgpipe.models import feature_names as names
from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.backbones import Backbone
from imgpipe.models.features import extractor
from tests.components.report.report_facts import facts, jpeg
from tests.components.report.test_page import read
from tests.images import encoded

_SIZE = 48
_VIEWS = ViewSpec(count=3, brightness=0.2, hue=0.1)
_SETTINGS = {"count": 3, "rotation": 0.0, "shifts": 0.0, "shear": 0.0, "zoom": 0.0}


@pytest.fixture
def examples(tmp_path):
    """Return a function that writes images into the split train of an Examples artifact.

    It takes the number of images by label and returns the URI of the artifact.
    """
    import tensorflow as tf

    from imgpipe.components.storage import records

    def make(counts):
        folder = tmp_path / "examples" / "Split-train"
        folder.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / "data_tfrecord-00000-of-00001")) as out:
            for label, count in counts.items():
                for i in range(count):
                    data = jpeg((i * 20, len(label) * 9, 90), (40, 40))
                    values = {
                        names.IMAGE_BYTES: data,
                        names.LABEL: label,
                        names.PATH: f"{label}/{i}.jpg",
                        names.IMAGE_HASH: hashlib.sha256(data).hexdigest(),
                        names.REPAIRS: "turned" if i else "",
                    }
                    out.write(records.serialise(records.make(values)))
        return str(tmp_path / "examples")

    return make


def test_images_are_chosen_from_each_class_in_turn(examples):
    rows = augmented_views.choose(examples({"rock": 9, "paper": 9, "scissors": 1}))
    assert [row["path"] for row in rows] == [
        "paper/0.jpg",
        "rock/0.jpg",
        "scissors/0.jpg",
        "paper/1.jpg",
    ]
    assert all(len(row["content_hash"]) == 64 for row in rows)


def test_the_shown_views_are_those_of_the_training(examples):
    from imgpipe.components.report import facts as run_facts

    uri = examples({"rock": 2, "paper": 2})
    found = {
        "views": augmented_views.choose(uri),
        "settings": {"views": {**_SETTINGS, "hue": 0.5}, "image_size": 32},
    }
    wanted = {row["image_hash"] for row in found["views"]}
    images = run_facts.encoded_images(uri, wanted, len(wanted))
    made = augmented_views.encoded_views(found, images)
    assert len(made) == 4 * 4
    row = found["views"][0]
    expected = augmented_views.view_pixels(
        images[row["image_hash"]],
        row["content_hash"],
        ViewSpec(**{**_SETTINGS, "hue": 0.5}),
        32,
    )
    for number, view in enumerate(expected):
        shown = Image.open(io.BytesIO(made[views.view_key(row["image_hash"], number)]))
        np.testing.assert_array_equal(np.asarray(shown), view)


def test_an_image_without_bytes_is_left_out(examples):
    found = {
        "views": [{"image_hash": "gone", "content_hash": "0" * 64}],
        "settings": {"views": _SETTINGS, "image_size": 32},
    }
    assert augmented_views.encoded_views(found, {}) == {}


def test_the_page_describes_and_shows_the_augmented_views():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    images = {views.view_key("one", n): jpeg(colour, (50, 50)) for n, colour in enumerate(colours)}
    parsed = read(facts(), images=images)
    assert ("unchanged and in 2 augmented views (rotation 40.0, horizontal flip).") in parsed.text
    assert "1 training image as the backbone sees it" in parsed.text
    shown_links = [link for link in parsed.links if link.startswith("data:image/jpeg")]
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(link.split(",")[1])))).mean((0, 1))
        for link in shown_links
    ]
    assert [int(colour.argmax()) for colour in shown] == [0, 1, 2]
    assert "view 2 of rock/1.jpg" in parsed.alts


def test_only_the_first_8_of_many_views_are_shown():
    found = facts()
    found["settings"]["views"] = {"count": 12, "hue": 0.2}
    parsed = read(found)
    assert "in 12 augmented views (hue 0.2)." in parsed.text
    assert "; the first 8 views" in parsed.text


def test_without_a_bank_the_page_says_that_no_views_were_made():
    found = facts()
    found["views"] = []
    assert "Augmented views No views were made." in read(found).text


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def _hash(data: bytes) -> str:
    """Return the SHA-256 digest of an image file."""
    return hashlib.sha256(data).hexdigest()


def _pixels_as_features(backbone: Backbone, side: int, *_: object) -> Any:
    """Return a model whose features are the pixels that it receives."""
    import keras

    pixels = keras.Input((side, side, 3))
    return keras.Model(pixels, keras.layers.Flatten()(pixels))


def test_the_views_are_those_that_the_feature_bank_uses(monkeypatch) -> None:
    monkeypatch.setattr(extractor, "build_features", _pixels_as_features)
    image = encoded(_noise(60, 80), "JPEG")
    shown = augmented_views.view_pixels(image, _hash(image), _VIEWS, _SIZE)
    assert shown.shape == (4, _SIZE, _SIZE, 3) and shown.dtype == np.uint8
    identity = extractor.FeatureExtractor(image_size=_SIZE, precision="float32", views=_VIEWS)
    (given,) = identity.extract([image], [_hash(image)], [range(4)])
    # Features are float16, whose steps are 0.125 up to 255.
    np.testing.assert_allclose(shown, given.reshape(shown.shape), atol=0.5 + 0.125)


def test_the_first_view_is_the_image_itself() -> None:
    image = encoded(_noise(_SIZE, _SIZE), "PNG")
    shown = augmented_views.view_pixels(image, _hash(image), _VIEWS, _SIZE)
    np.testing.assert_array_equal(shown[0], np.asarray(Image.open(io.BytesIO(image))))
    assert all(np.abs(view.astype(int) - shown[0]).mean() > 2 for view in shown[1:])
