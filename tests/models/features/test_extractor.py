"""Tests of the feature extractor: fingerprints, order of views, batches and bfloat16."""

import hashlib
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from imgpipe.models import preprocess
from imgpipe.models.errors import ConfigError
from imgpipe.models.features import extractor as module
from imgpipe.models.features.extractor import FeatureExtractor, resolve_precision
from imgpipe.models.settings.course import ViewSpec
from imgpipe.models.settings.model import ModelSettings

_SIZE = 64  # pixels; small, so that the tests are quick
_SETTINGS = ModelSettings(
    backbone="conv_8_12_16",
    weights="none",
    freeze="all",
    features="covariance",
    image_size=_SIZE,
)


@pytest.fixture(scope="module")
def float32() -> FeatureExtractor:
    """Return a float32 extractor of a small network that reads covariances of three maps."""
    return FeatureExtractor(_SETTINGS, "float32")


@pytest.fixture(scope="module")
def images(draw) -> list[bytes]:
    """Return nine encoded images of different widths."""
    return [draw(seed, (70 + seed, 64)) for seed in range(9)]


@pytest.fixture(scope="module")
def hashes(images) -> list[str]:
    return [hashlib.sha256(image).hexdigest() for image in images]


def test_views_are_returned_in_the_requested_order(float32, images, hashes) -> None:
    wanted = [[0, 1, 2], [], [2], [0], [2, 0], [], [1, 0], [0, 0], []]
    found = float32.extract(images, hashes, wanted)
    assert [one.shape for one in found] == [(len(views), 250) for views in wanted]
    assert all(one.dtype == np.float16 for one in found)
    every = float32.extract(images, hashes, [[0, 1, 2]] * len(images))
    for views, some, all_views in zip(wanted, found, every, strict=True):
        np.testing.assert_allclose(some, all_views[views], rtol=2e-3, atol=2e-3)


def test_features_do_not_depend_on_the_batch(float32, images, hashes) -> None:
    views = [range(5)] * len(images)  # 45 views: one full batch and one partial batch
    finished: list[int] = []
    together = float32.extract(images, hashes, views, finished.append)
    assert sum(finished) == sum(map(bool, views)), "each image is counted with its last view"
    turned = float32.extract(images[::-1], hashes[::-1], views)[::-1]
    np.testing.assert_allclose(together, turned, rtol=2e-3, atol=2e-3)
    alone = float32.extract(images[:1], hashes[:1], [[3]])[0]
    np.testing.assert_allclose(together[0][[3]], alone, rtol=2e-3, atol=2e-3)


def test_features_are_the_pooled_map_of_the_decoded_image(float32, images, hashes) -> None:
    model = float32.build()
    expected = model(preprocess.batch_decode(images, _SIZE), training=False).numpy()
    found = np.concatenate(float32.extract(images, hashes, [[0]] * len(images)))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_bfloat16_features_have_nearly_the_direction_of_float32_features(
    float32, images, hashes
) -> None:
    import keras

    before = keras.config.dtype_policy()
    views = [[0, 1]] * len(images)
    low = FeatureExtractor(_SETTINGS, "bfloat16").extract(images, hashes, views)
    assert keras.config.dtype_policy() == before
    a, b = (
        np.concatenate(one).astype(np.float32)
        for one in (low, float32.extract(images, hashes, views))
    )
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.98


def test_the_fingerprint_changes_with_every_setting_that_changes_features(monkeypatch) -> None:
    default = ModelSettings(image_size=_SIZE)
    base = FeatureExtractor(default, "float32")
    others = [
        FeatureExtractor(replace(default, image_size=_SIZE + 1), "float32"),
        FeatureExtractor(default, "bfloat16"),
    ]
    keys = {base.key(0), *(other.key(0) for other in others)}
    monkeypatch.setattr(module.source_code, "fingerprint", lambda *_: "of other code")
    keys.add(base.key(0))
    monkeypatch.undo()
    base.backbone = replace(base.backbone, weights="none")
    keys.add(base.key(0))
    assert len(keys) == 5
    assert len({base.key(view) for view in range(5)}) == 5


def test_the_fingerprint_of_view_0_ignores_the_augmentation() -> None:
    one, other, more = (
        FeatureExtractor(ModelSettings(views=views), "float32")
        for views in (ViewSpec(), ViewSpec(rotation=10), ViewSpec(count=8))
    )
    assert one.key(0) == other.key(0) == more.key(0)
    assert one.key(1) == more.key(1)
    assert one.key(1) != other.key(1)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("avx2", "float32")],
)
def test_auto_precision_is_bfloat16_only_on_a_cpu_that_has_it(
    monkeypatch, flags: str, expected: str
) -> None:
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
def test_features_that_float16_cannot_hold_are_refused(
    images, hashes, monkeypatch, scale, back, refused
) -> None:
    import keras

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
    settings = ModelSettings(builder=f"{own.__name__}:build", weights="none", image_size=8)
    extractor = FeatureExtractor(settings, "float32")
    if not refused:
        extractor.extract(images, hashes, [[0]] * len(images))
        return
    message = r"large_values:build: expected features .* 65,504.*NaN or too large.*Normalise the"
    with pytest.raises(ConfigError, match=message):
        extractor.extract(images, hashes, [[0]] * len(images))
