"""Tests of the feature extractor: fingerprints, order of views, batches and bfloat16."""

import hashlib
import sys
from types import ModuleType

import keras
import numpy as np
import pytest

from imgpipe.models import preprocess
from imgpipe.models.errors import ConfigError
from imgpipe.models.features import extractor as module
from imgpipe.models.features.extractor import FeatureExtractor, resolve_precision
from tests.images import encoded, soft
from tests.models import banks
from tests.network_settings import network_settings

_SIZE = 64  # pixels; small, so that the tests are quick
_SETTINGS = banks.covariance_settings(_SIZE)
_IMAGES = [encoded(soft(seed, (70 + seed, 64)), "JPEG") for seed in range(9)]
_HASHES = [hashlib.sha256(image).hexdigest() for image in _IMAGES]


@pytest.fixture(scope="module")
def float32() -> FeatureExtractor:
    """Return a float32 extractor of a small network that reads covariances of three maps."""
    return FeatureExtractor(_SETTINGS, "float32")


def test_views_are_returned_in_the_requested_order(float32):
    wanted = [[0, 1, 2], [], [2], [0], [2, 0], [], [1, 0], [0, 0], []]
    found = float32.extract(_IMAGES, _HASHES, wanted)
    assert [one.shape for one in found] == [(len(views), 250) for views in wanted]
    assert all(one.dtype == np.float16 for one in found)
    every = float32.extract(_IMAGES, _HASHES, [[0, 1, 2]] * len(_IMAGES))
    for views, some, all_views in zip(wanted, found, every, strict=True):
        np.testing.assert_allclose(some, all_views[views], rtol=2e-3, atol=2e-3)


def test_features_do_not_depend_on_the_batch(float32):
    views = [range(5)] * len(_IMAGES)  # 45 views: one full batch and one partial batch
    finished: list[int] = []
    together = float32.extract(_IMAGES, _HASHES, views, finished.append)
    assert sum(finished) == sum(map(bool, views)), "each image is counted with its last view"
    turned = float32.extract(_IMAGES[::-1], _HASHES[::-1], views)[::-1]
    np.testing.assert_allclose(together, turned, rtol=2e-3, atol=2e-3)
    alone = float32.extract(_IMAGES[:1], _HASHES[:1], [[3]])[0]
    np.testing.assert_allclose(together[0][[3]], alone, rtol=2e-3, atol=2e-3)


def test_features_are_the_pooled_map_of_the_decoded_image(float32):
    model = float32.build()
    expected = model(preprocess.batch_decode(_IMAGES, _SIZE), training=False).numpy()
    found = np.concatenate(float32.extract(_IMAGES, _HASHES, [[0]] * len(_IMAGES)))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_bfloat16_features_have_nearly_the_direction_of_float32_features(float32):
    before = keras.config.dtype_policy()
    views = [[0, 1]] * len(_IMAGES)
    low = FeatureExtractor(_SETTINGS, "bfloat16").extract(_IMAGES, _HASHES, views)
    assert keras.config.dtype_policy() == before
    a, b = (
        np.concatenate(one).astype(np.float32)
        for one in (low, float32.extract(_IMAGES, _HASHES, views))
    )
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.98


def test_the_fingerprint_changes_with_every_setting_that_changes_features(monkeypatch):
    default = network_settings(image_size=_SIZE)
    base = FeatureExtractor(default, "float32")
    others = [
        FeatureExtractor(network_settings(default, image_size=_SIZE + 1), "float32"),
        FeatureExtractor(default, "bfloat16"),
        FeatureExtractor(network_settings(default, weights="none"), "float32"),
    ]
    keys = {base.key(0), *(other.key(0) for other in others)}
    monkeypatch.setattr(module.source_code, "fingerprint", lambda *_: "of other code")
    keys.add(base.key(0))
    monkeypatch.undo()
    assert len(keys) == 5
    assert len({base.key(view) for view in range(5)}) == 5


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("avx2", "float32")],
)
def test_auto_precision_is_bfloat16_only_on_a_cpu_that_has_it(monkeypatch, flags, expected):
    monkeypatch.setattr(module, "processor_features", lambda: frozenset(flags.split()))
    monkeypatch.setattr(module, "has_gpu", lambda: False)
    resolve_precision.cache_clear()
    assert resolve_precision("auto") == expected
    monkeypatch.setattr(module, "has_gpu", lambda: True)
    resolve_precision.cache_clear()
    assert resolve_precision("auto") == "float32"
    resolve_precision.cache_clear()


@pytest.mark.parametrize(
    ("scale", "back", "refused"),
    [(2000.0, 1.0, True), (float("nan"), 1.0, True), (2000.0, 1 / 2000, False)],
)
def test_features_that_float16_cannot_hold_are_refused(monkeypatch, scale, back, refused):
    def build(side: int) -> keras.Model:
        pixels = keras.Input((side, side, 3))
        x = keras.layers.Rescaling(scale)(pixels)
        mean = keras.initializers.Constant(back / 3)
        return keras.Model(pixels, keras.layers.Conv2D(3, 1, kernel_initializer=mean)(x))

    # By another name, since a network is built once in a process, and this module has no file.
    own = ModuleType("large_values" if refused else "usual_values")
    own.build = build
    build.__module__ = own.__name__  # else its code would be that of the tests
    monkeypatch.setitem(sys.modules, own.__name__, own)
    settings = network_settings(builder=f"{own.__name__}:build", weights="none", image_size=8)
    extractor = FeatureExtractor(settings, "float32")
    if not refused:
        extractor.extract(_IMAGES, _HASHES, [[0]] * len(_IMAGES))
        return
    message = r"large_values:build: expected features .* 65,504.*NaN or too large.*Normalise the"
    with pytest.raises(ConfigError, match=message):
        extractor.extract(_IMAGES, _HASHES, [[0]] * len(_IMAGES))
