"""A view depends only on its image and number, and has the form that is set, or the user's own."""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from imgpipe.models import augmentation
from imgpipe.models.augmentation import augment, require_builder, seeds
from imgpipe.models.errors import ConfigError
from imgpipe.models.features.extractor import weights_key
from imgpipe.models.settings.course import ViewSpec
from imgpipe.pipeline.configuration.config import build
from tests.network_settings import network_settings

_STILL = ViewSpec(rotation=0, shifts=0, shear=0, zoom=0, horizontal_flip=False)
_COUNT, _SIDE = 7, 33
_IMAGES = np.random.default_rng(0).uniform(0, 255, (_COUNT, _SIDE, _SIDE, 3)).astype(np.float32)
#: The coefficients a, b, c, d, e, f of the transforms of two views; see `_transform`.
_PINNED = (
    (1.146088, -0.204425, -17.804531, 0.176137, 1.064781, 12.522196),
    (0.755784, 0.509894, 22.482861, -0.39597, 1.059846, 46.798981),
)


def _seeds(count: int) -> np.ndarray:
    return np.array(seeds([hashlib.sha256(bytes([n])).hexdigest() for n in range(count)]))


_HASHES = _seeds(_COUNT)


def _view(images: np.ndarray, hashes: np.ndarray, view: object, spec: ViewSpec) -> np.ndarray:
    """Compute one view, or one for each image, eagerly."""
    return augment(tf.constant(images), tf.constant(hashes, tf.int64), view, spec).numpy()


def test_view_0_is_unchanged_in_a_batch_with_warped_views():
    mixed = _view(_IMAGES, _HASHES, [0, 1, 0, 2, 3, 0, 4], ViewSpec())
    np.testing.assert_array_equal(mixed[[0, 2, 5]], _IMAGES[[0, 2, 5]])
    assert not np.array_equal(mixed[1], _IMAGES[1])
    np.testing.assert_array_equal(_view(_IMAGES, _HASHES, 1, _STILL), _IMAGES)


def test_a_view_does_not_depend_on_its_batch():
    spec = ViewSpec()
    batch = _view(_IMAGES, _HASHES, 3, spec)
    turned = _view(_IMAGES[::-1], _HASHES[::-1], 3, spec)[::-1]
    alone = [_view(_IMAGES[n : n + 1], _HASHES[n : n + 1], 3, spec)[0] for n in range(_COUNT)]
    np.testing.assert_array_equal(batch, turned)
    np.testing.assert_array_equal(batch, alone)


def test_a_graph_gives_the_views_of_eager_code():
    """They differ by rounding only: a graph's optimiser reorders the arithmetic."""
    spec = ViewSpec()
    graph = tf.function(lambda i, h: augment(i, h, 2, spec), jit_compile=False)
    traced = graph(tf.constant(_IMAGES), tf.constant(_HASHES, tf.int64)).numpy()
    np.testing.assert_allclose(traced, _view(_IMAGES, _HASHES, 2, spec), atol=1e-2)


def test_views_of_one_image_differ_by_number_and_hash():
    same = np.repeat(_IMAGES[:1], _COUNT, 0)
    views = [_view(same, _HASHES, view, ViewSpec()) for view in (1, 2)]
    flat = np.concatenate(views).reshape(2 * _COUNT, -1)
    assert len(np.unique(flat, axis=0)) == 2 * _COUNT


def test_a_horizontal_flip_mirrors_about_half_of_the_images():
    images = np.tile(np.arange(8, dtype=np.float32)[None, None, :, None], (64, 8, 1, 3))
    hashes = _seeds(64)
    views = _view(images, hashes, 1, _STILL.model_copy(update={"horizontal_flip": True}))
    mirrored = (views == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (views == images).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 16 < mirrored.sum() < 48


def test_fill_determines_the_pixels_outside_the_image():
    images = np.full((_COUNT, _SIDE, _SIDE, 3), 200, np.float32)
    shifted = ViewSpec(shifts=0.5)
    nearest = _view(images, _HASHES, 1, shifted)
    np.testing.assert_allclose(nearest, images, rtol=1e-5)
    constant = _view(images, _HASHES, 1, shifted.model_copy(update={"fill": "constant"}))
    assert (constant == 0).mean() > 0.05


def test_shifts_stay_within_their_range():
    images = np.zeros((200, 21, 21, 3), np.float32)
    images[:, 10, 10] = 1
    hashes = _seeds(200)
    views = _view(images, hashes, 1, _STILL.model_copy(update={"shifts": 0.2, "fill": "constant"}))
    mass = views[..., 0]
    centre = (mass * np.arange(21)).sum((1, 2)) / mass.sum((1, 2))
    assert np.abs(centre - 10).max() <= 0.2 * 21 + 1e-3
    assert centre.std() > 1


def test_the_centre_is_fixed_under_rotation_zoom_and_shear():
    images = np.zeros((50, 21, 21, 3), np.float32)
    images[:, 10, 10] = 1
    hashes = _seeds(50)
    views = _view(
        images, hashes, 1, _STILL.model_copy(update={"rotation": 180, "zoom": 0.3, "shear": 0.3})
    )
    np.testing.assert_allclose(views[:, 10, 10], 1, atol=1e-5)


def test_the_key_depends_only_on_settings_that_change_a_view():
    spec = ViewSpec()
    assert spec.key() == spec.model_copy(update={"count": 9}).key() == ViewSpec(rotation=40).key()
    changes = ({"rotation": 39}, {"shifts": 0.1}, {"shear": 0}, {"zoom": 0.3}, {"fill": "wrap"})
    keys = {
        spec.model_copy(update=change).key() for change in (*changes, {"horizontal_flip": False})
    }
    assert len(keys | {spec.key()}) == 7


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *[("rotation", -1), ("shifts", 2), ("zoom", 1), ("shear", -0.1), ("count", -1)],
        *[("fill", "x"), ("count", 2.5), ("horizontal_flip", 2), ("rotaton", 1)],
    ],
)
def test_a_setting_out_of_range_is_named(setting, value):
    with pytest.raises(ValidationError, match=rf"(?s){setting}.*input_value={value!r}"):
        ViewSpec(**{setting: value})


def test_the_transforms_of_the_course_warp_equal_golden_values():
    """The two transforms are those with which the first banks were made."""
    first, second = augmentation.seeds([hashlib.sha256(text).hexdigest() for text in (b"0", b"1")])
    seeds = tf.constant([[first, 1], [second, 4]], tf.int64)
    found = augmentation.projective_transforms(seeds, tf.constant(224.0), ViewSpec()).numpy()
    np.testing.assert_allclose(found[:, :6], _PINNED, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "count", "stored"),
    [
        ({}, 4, 0),
        ({"course": {"hidden_units": 64}}, 4, 4),
        ({"course": {"fine_tune": {"mode": "on"}}}, 4, 0),
        ({"course": {"optimizer": "adam"}}, 4, 4),
        ({"course": {"views": {"count": 2}}}, 2, 2),
        ({"course": {"views": {"count": 0}}}, 0, 0),
    ],
    ids=str,
)
def test_the_head_that_is_solved_has_no_views_unless_they_are_set(changed, count, stored):
    config = build(changed)
    assert config.views.count == count
    assert config.stored_views.count == stored


_MODULE = "own_views"
_FUNCTION = "def make():\n    return lambda images: 255.0 - images\n"
_LAYER = "import keras\n\n\ndef make():\n    return keras.layers.RandomFlip('horizontal', seed=1)\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    yield tmp_path / f"{_MODULE}.py"
    sys.modules.pop(_MODULE, None)
    sys.path[:] = [folder for folder in sys.path if folder != str(tmp_path)]


def _own_views(spec: ViewSpec) -> tuple[np.ndarray, np.ndarray]:
    images = tf.random.stateless_uniform([2, 8, 8, 3], (1, 2), 0, 255)
    shown = tf.function(augment)(images, tf.constant([5, 6], tf.int64), [0, 1], spec)
    return images.numpy(), shown.numpy()


def test_a_function_of_a_batch_makes_all_views_but_the_image_itself(module):
    module.write_text(_FUNCTION)
    images, shown = _own_views(ViewSpec(builder=f"{_MODULE}:make"))
    np.testing.assert_array_equal(shown[0], images[0])
    np.testing.assert_allclose(shown[1], 255 - images[1], atol=1e-3)


def test_a_keras_layer_is_called_as_in_training(module):
    module.write_text(_LAYER.replace("RandomFlip('horizontal', seed=1)", "Dropout(0.5)"))
    _, shown = _own_views(ViewSpec(builder=f"{_MODULE}:make"))
    assert 0.2 < (shown[1] == 0).mean() < 0.8 and not (shown[0] == 0).any()


def test_a_change_of_the_source_changes_the_keys_of_views_alone(module):
    settings = network_settings(weights="none", views=ViewSpec(builder=f"{_MODULE}:make"))
    module.write_text(_FUNCTION)
    before = weights_key(settings, "float32").split("-")
    assert weights_key(settings, "float32").split("-") == before
    module.write_text(_FUNCTION.replace("255.0", "254.0"))
    later = module.stat().st_mtime + 2  # Python compares bytecode and source by whole seconds
    os.utime(module, (later, later))
    after = weights_key(settings, "float32").split("-")
    assert before[0] == after[0] and before[1] != after[1], "view 0 is the image itself"
    plain = network_settings(settings, views=ViewSpec())
    assert weights_key(plain, "float32").split("-")[1] not in (before[1], after[1])
    images, shown = _own_views(settings.views)
    np.testing.assert_allclose(shown[1], np.clip(254 - images[1], 0, 255), atol=1e-3)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "own_views:make cannot be imported"),
        ("def make():\n    return 3\n", "must return a Keras layer or a function of a batch"),
        ("def make(images):\n    return images\n", "must take no argument"),
        ("def make():\n    return lambda images: images[:, 1:]\n", "of the shape that it receives"),
        ("def make():\n    return lambda images: images.flip()\n", "raised an error"),
    ],
)
def test_errors_name_the_setting_and_what_was_expected(module, source, words):
    module.write_text(source)
    with pytest.raises(ConfigError, match=words) as refused:
        require_builder(ViewSpec(builder=f"{_MODULE}:make"), 8)
    assert str(refused.value).startswith("course.views.builder: ")
