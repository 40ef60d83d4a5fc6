"""Augmentations of the user's own: what they return, what views they make, and their keys."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.models.augmentation import augment, require_builder
from imgpipe.models.errors import ConfigError
from imgpipe.models.features.extractor import weights_key
from imgpipe.models.settings.model import ModelSettings
from imgpipe.models.settings.network import ViewSpec

_MODULE = "own_views"
_FUNCTION = "def make():\n    return lambda images: 255.0 - images\n"
_LAYER = "import keras\n\n\ndef make():\n    return keras.layers.RandomFlip('horizontal', seed=1)\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of an importable module in the current folder."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / f"{_MODULE}.py"
    sys.modules.pop(_MODULE, None)
    sys.path[:] = [folder for folder in sys.path if folder != str(tmp_path)]


def views(spec: ViewSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return two images, and their views 0 and 1."""
    images = tf.random.stateless_uniform([2, 8, 8, 3], (1, 2), 0, 255)
    shown = tf.function(augment)(images, tf.constant([5, 6], tf.int64), [0, 1], spec)
    return images.numpy(), shown.numpy()


def test_a_function_of_a_batch_makes_all_views_but_the_image_itself(module: Path) -> None:
    module.write_text(_FUNCTION)
    images, shown = views(ViewSpec(builder=f"{_MODULE}:make"))
    np.testing.assert_array_equal(shown[0], images[0])
    np.testing.assert_allclose(shown[1], 255 - images[1], atol=1e-3)


def test_a_keras_layer_is_called_as_in_training(module: Path) -> None:
    module.write_text(_LAYER.replace("RandomFlip('horizontal', seed=1)", "Dropout(0.5)"))
    _, shown = views(ViewSpec(builder=f"{_MODULE}:make"))
    assert 0.2 < (shown[1] == 0).mean() < 0.8 and not (shown[0] == 0).any()


def test_a_change_of_the_source_changes_the_keys_of_views_alone(module: Path) -> None:
    settings = ModelSettings(weights="none", views=ViewSpec(builder=f"{_MODULE}:make"))
    module.write_text(_FUNCTION)
    before = weights_key(settings, "float32").split("-")
    assert weights_key(settings, "float32").split("-") == before
    module.write_text(_FUNCTION.replace("255.0", "254.0"))
    later = module.stat().st_mtime + 2  # Python compares bytecode and source by whole seconds
    os.utime(module, (later, later))
    after = weights_key(settings, "float32").split("-")
    assert before[0] == after[0] and before[1] != after[1], "view 0 is the image itself"
    plain = replace(settings, views=ViewSpec())
    assert weights_key(plain, "float32").split("-")[1] not in (before[1], after[1])
    images, shown = views(settings.views)
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
def test_errors_name_the_setting_and_what_was_expected(
    module: Path, source: str, words: str
) -> None:
    module.write_text(source)
    with pytest.raises(ConfigError, match=words) as refused:
        require_builder(ViewSpec(builder=f"{_MODULE}:make"), 8)
    assert str(refused.value).startswith("views.builder: ")
