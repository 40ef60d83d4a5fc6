"""Tests of loading weights from local files: every accepted layout, and files that do not fit."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from imgpipe.models import backbones
from imgpipe.models.errors import ResourceError

# When it saves weights, Keras converts TensorFlow variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

_SIZE = 75  # pixels; the smallest side that InceptionV3 accepts
_SMALL = "mobilenet_v2_0.35_224_no_top_from_tm.weights.h5"
_FULL = "mobilenet_v2_1.0_224_no_top_from_coral_ptq.weights.h5"

#: Pooled features (channel: value) of scikit-image's image "chelsea" at 224 px with the weights
#: `_SMALL`, computed by Keras' own MobileNetV2 and loader, without folding its BatchNorm.
_GOLDEN = {199: 5.115, 564: 4.485, 1232: 4.122, 663: 4.045, 1207: 3.988}


def _pixels(size: int) -> np.ndarray:
    """Return random pixels as float32 [2, size, size, 3] in 0..255."""
    return np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")


def _model(size: int, **choice):
    """Return a Keras model of the backbone that `choice` describes, for images of `size` pixels."""
    import keras

    pixels = keras.Input((size, size, 3))
    return keras.Model(pixels, backbones.get(**choice).build(pixels))


def _keras_inception(seed: int):
    """Return Keras' InceptionV3 with random weights and BatchNorms that change their input."""
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.applications.InceptionV3(
        weights=None, include_top=False, input_shape=(_SIZE, _SIZE, 3)
    )
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.3, 0.8, w.shape) for w in layer.weights])
    return model


@pytest.fixture(scope="module")
def inception():
    """Return Keras' InceptionV3 with random weights."""
    return _keras_inception(0)


@pytest.fixture(scope="module")
def expected(inception) -> np.ndarray:
    """Return the feature map that `inception` computes for `_pixels`."""
    return inception(_pixels(_SIZE) / 127.5 - 1, training=False).numpy()


def _numbered(name: str) -> tuple[str, int]:
    """Split "conv2d_17" into ("conv2d", 17); other names are returned whole with 0."""
    found = re.fullmatch(r"([a-z_]+?(?:2d)?)(?:_(\d+))?", name)
    return (found[1], int(found[2] or 0)) if found else (name, 0)


def _write_by_older_keras(model, path: Path, first: int = 0, classifier: bool = False) -> None:
    """Write weights as Keras 1 and 2 did.

    The file has a group for each layer, the weights under their names, and their order in lists.
    `first` is the number with which generated layer names begin; it was 1 before Keras 2.3.
    """
    # The numbers that Keras has given in this process, by kind of layer.
    made: dict[str, list[int]] = {}
    for layer in model.layers:
        kind, number = _numbered(layer.name)
        made.setdefault(kind, []).append(number)
    names = []
    with h5py.File(path, "w") as file:
        for layer in model.layers:
            kind, number = _numbered(layer.name)
            number += first - min(made[kind])
            name = f"{kind}_{number}" if number else kind
            names.append(name)
            group = file.create_group(name)
            keys = [f"{name}/{weight.name}:0" for weight in layer.weights]
            for key, value in zip(keys, layer.get_weights(), strict=True):
                group[key] = value
            group.attrs["weight_names"] = [key.encode() for key in keys]
        if classifier:
            group = file.create_group("predictions")
            group["predictions/kernel:0"] = np.zeros((2048, 1000), np.float32)
            group.attrs["weight_names"] = [b"predictions/kernel:0"]
            names.append("predictions")
        half = len(names) // 2  # Keras divides long lists
        file.attrs["layer_names0"] = [name.encode() for name in names[:half]]
        file.attrs["layer_names1"] = [name.encode() for name in names[half:]]
        file.attrs["keras_version"] = b"2.0.1"


@pytest.mark.parametrize(
    "layout",
    [
        "weights.h5",
        "from_1",
        pytest.param("from_0", marks=pytest.mark.slow),
        pytest.param("with_classifier", marks=pytest.mark.slow),
        pytest.param("keras", marks=pytest.mark.slow),
    ],
)
def test_inception_from_every_layout(layout: str, inception, expected, tmp_path) -> None:
    path = tmp_path / f"inception.{'keras' if layout == 'keras' else 'weights.h5'}"
    if layout == "weights.h5":
        inception.save_weights(path)
    elif layout == "keras":
        inception.save(path)
    else:
        path = tmp_path / "inception_notop.h5"
        first, classifier = int(layout == "from_1"), layout == "with_classifier"
        _write_by_older_keras(inception, path, first, classifier)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = _model(_SIZE, name="inception_v3", weights=str(path), weights_sha256=digest)
    found = model(_pixels(_SIZE), training=False).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


@pytest.mark.slow
def test_convnext_that_has_models_inside_it_loads_the_file_that_keras_saved(tmp_path) -> None:
    import keras

    shape = (32, 32, 3)
    own = keras.applications.ConvNeXtTiny(weights=None, include_top=False, input_shape=shape)
    random = np.random.default_rng(0)
    for weight in own.weights:  # at first, its LayerScale lets hardly any other weight count
        weight.assign(random.normal(0.1, 0.05, weight.shape))
    path = tmp_path / "convnext.keras"
    own.save(path)
    expected = own(_pixels(32), training=False).numpy()
    model = _model(32, name="convnext_tiny", weights=str(path))
    found = model(_pixels(32), training=False).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    message = r"is not of mobilenet_v2 as it was set \(name, width\): "
    with pytest.raises(ResourceError, match=message):
        _model(32, name="mobilenet_v2", weights=str(path))


@pytest.mark.slow
@pytest.mark.parametrize(("file", "width"), [(_SMALL, 0.35), (_FULL, 1.0)])
def test_mobilenet_v2_loads_the_weights_that_keras_loads(
    shared_data, file: str, width: float
) -> None:
    import keras

    path = shared_data / "weights" / file
    own = keras.applications.MobileNetV2(
        weights=None, include_top=False, alpha=width, input_shape=(96, 96, 3)
    )
    own.load_weights(path)
    expected = own(_pixels(96) / 127.5 - 1, training=False).numpy()
    model = _model(96, name="mobilenet_v2", weights=str(path), width=width)
    found = model(_pixels(96), training=False).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max(), rtol=0)


def test_golden_features_of_mobilenet_v2(shared_data) -> None:
    from skimage import data

    path = shared_data / "weights" / _SMALL
    image = Image.fromarray(data.chelsea()).crop((75, 0, 375, 300))
    pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), np.float32)[None]
    model = _model(224, name="mobilenet_v2", weights=str(path), width=0.35)
    features = model(pixels, training=False).numpy().mean(axis=(0, 1, 2))
    highest = features.argsort()[::-1][: len(_GOLDEN)]
    assert highest.tolist() == list(_GOLDEN)
    np.testing.assert_allclose(features[highest], list(_GOLDEN.values()), atol=1e-3)


def test_another_width_names_a_layer_and_its_shapes(shared_data) -> None:
    path = shared_data / "weights" / _SMALL
    message = r"\(name, width\): A total of \d+ .*shape=\(3, 3, 3, 32\), Received: .*3, 3, 16"
    with pytest.raises(ResourceError, match=message):
        _model(96, name="mobilenet_v2", weights=str(path))


@pytest.fixture
def signs(tmp_path) -> Path:
    """Return the path of a file with random weights of `conv_64_64_grey`, a small network."""
    import keras

    pixels = keras.Input((28, 28, 3))
    end = backbones.get("conv_64_64_grey", weights="none", seed=5).build(pixels)
    path = tmp_path / "signs.weights.h5"
    keras.Model(pixels, end).save_weights(path)
    return path


def test_a_backbone_loads_the_weights_that_it_saved(signs) -> None:
    saved = _model(28, name="conv_64_64_grey", weights=str(signs)).get_weights()
    made = _model(28, name="conv_64_64_grey", weights="none", seed=5).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(saved, made, strict=True))


def test_a_layer_that_the_file_lacks_is_named(signs) -> None:
    with pytest.raises(ResourceError, match=r"Layer 'conv3' expected 2 variables, but received 0"):
        _model(46, name="conv_64_64_64_grey", weights=str(signs))


def test_another_file_than_expected_is_not_loaded(signs) -> None:
    with pytest.raises(ResourceError, match=r"not the expected file. Expected SHA-256 0000"):
        _model(28, name="conv_64_64_grey", weights=str(signs), weights_sha256="0" * 64)


def test_missing_imagenet_weights_say_what_to_do(monkeypatch, tmp_path) -> None:
    """Keras' cache is empty, and no download is possible."""
    import keras

    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    message = (
        r"inception_v3_weights_tf_dim_ordering_tf_kernels_notop\.h5\. "
        r"Put that file into .*/models, or name it: model\.weights = \"PATH/inception"
    )
    with pytest.raises(ResourceError, match=message):
        backbones.get("inception_v3").build(keras.Input((_SIZE, _SIZE, 3)))


def test_imagenet_weights_come_from_keras_cache(monkeypatch, tmp_path, shared_data) -> None:
    """MobileNetV2's file in the cache is used; for 96 px it has a name of its own."""
    import shutil

    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.weights.h5"
    cache = tmp_path / "models"
    cache.mkdir()
    shutil.copy(shared_data / "weights" / _SMALL, cache / name)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setattr(
        "keras.src.applications.mobilenet_v2.file_utils.get_file",
        lambda fname, *_, **__: str(cache / fname.replace(".h5", ".weights.h5")),
    )
    cached = _model(96, name="mobilenet_v2", width=0.35).get_weights()
    path = shared_data / "weights" / _SMALL
    local = _model(96, name="mobilenet_v2", width=0.35, weights=str(path)).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(cached, local, strict=True))


def test_an_image_size_that_the_network_does_not_accept_is_a_config_error() -> None:
    from imgpipe.models.errors import ConfigError

    with pytest.raises(ConfigError, match="inception_v3: Input size must be at least 75x75"):
        _model(64, name="inception_v3", weights="none")
