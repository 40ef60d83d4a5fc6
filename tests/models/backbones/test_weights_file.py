"""Weights from local files: every accepted layout, and files that do not fit or hold code."""

import hashlib
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from imgpipe.models import backbones
from imgpipe.models.errors import ConfigError, ResourceError

# When it saves weights, Keras converts TensorFlow variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

_SIZE = 75  # pixels; the smallest side that InceptionV3 accepts
_MOBILENET = "mobilenet_v2_1.0_224_no_top_from_coral_ptq.weights.h5"


def _pixels(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")


def _model(size: int, **choice):
    pixels = keras.Input((size, size, 3))
    return keras.Model(pixels, backbones.Backbone(**choice).build(pixels)[0])


@pytest.fixture(scope="module")
def inception() -> keras.Model:
    """Return Keras' InceptionV3 with random weights and BatchNorms that change their input."""
    keras.utils.set_random_seed(0)
    model = keras.applications.InceptionV3(
        weights=None, include_top=False, input_shape=(_SIZE, _SIZE, 3)
    )
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.3, 0.8, w.shape) for w in layer.weights])
    return model


@pytest.fixture(scope="module")
def expected(inception) -> np.ndarray:
    return inception(_pixels(_SIZE) / 127.5 - 1, training=False).numpy()


def _numbered(name: str) -> tuple[str, int]:
    """Split "conv2d_17" into ("conv2d", 17); other names are returned whole with 0."""
    found = re.fullmatch(r"([a-z_]+?(?:2d)?)(?:_(\d+))?", name)
    return (found[1], int(found[2] or 0)) if found else (name, 0)


def _write_by_older_keras(model: keras.Model, path: Path, classifier: bool) -> None:
    """Write weights as Keras 1 and 2 did.

    The file has a group for each layer, the weights under their names, and their order in lists.
    The numbers in names begin at 1 as before Keras 2.3, and at 0 in a file with a classifier.
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
            number += (not classifier) - min(made[kind])
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
        "from_1",
        pytest.param("with_classifier", marks=pytest.mark.slow),
        pytest.param("weights.h5", marks=pytest.mark.slow),
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
        _write_by_older_keras(inception, path, classifier=layout == "with_classifier")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = _model(_SIZE, name="inception_v3", weights=str(path), weights_sha256=digest)
    found = model(_pixels(_SIZE), training=False).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


@pytest.mark.slow
def test_convnext_that_has_models_inside_it_loads_the_file_that_keras_saved(tmp_path) -> None:
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
    message = "is not of mobilenet_v2: "
    with pytest.raises(ResourceError, match=message):
        _model(32, name="mobilenet_v2", weights=str(path))


@pytest.mark.slow
def test_mobilenet_v2_loads_the_weights_that_keras_loads(shared_data) -> None:
    path = shared_data / "weights" / _MOBILENET
    own = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(96, 96, 3))
    own.load_weights(path)
    expected = own(_pixels(96) / 127.5 - 1, training=False).numpy()
    model = _model(96, name="mobilenet_v2", weights=str(path))
    found = model(_pixels(96), training=False).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max(), rtol=0)


def test_a_layer_that_the_file_lacks_is_named(tmp_path) -> None:
    path = tmp_path / "signs.weights.h5"
    _model(28, name="conv_64_64_grey", weights="none").save_weights(path)
    with pytest.raises(ResourceError, match=r"Layer 'conv3' expected 2 variables, but received 0"):
        _model(46, name="conv_64_64_64_grey", weights=str(path))


def test_an_image_size_that_the_network_does_not_accept_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="inception_v3: Input size must be at least 75x75"):
        _model(64, name="inception_v3", weights="none")


@pytest.fixture
def canary(tmp_path, monkeypatch) -> Path:
    """Return the path of a file that the exploits would create, and tell it to their code."""
    path = tmp_path / "canary"
    monkeypatch.setenv("IMGPIPE_TEST_CANARY", str(path))
    return path


def _network(weights: Path | str = "none") -> keras.Model:
    return _model(28, name="conv_64_64", weights=str(weights))


def _refused(path: Path, canary: Path, message: str) -> None:
    """Assert that the backbone refuses the file with `message` and the canary does not exist."""
    with pytest.raises(ResourceError, match=message):
        _network(path)
    assert not canary.exists()


def test_the_code_in_an_archive_is_not_run(tmp_path, canary) -> None:
    model = _network()
    code = lambda x: (  # noqa: E731 - a function with a name would not be written into the file
        __import__("pathlib").Path(__import__("os").environ["IMGPIPE_TEST_CANARY"]).touch(),
        x,
    )[1]
    layer = keras.layers.Lambda(code, output_shape=(5, 5, 64), name="evil")
    evil = keras.Model(model.input, layer(model.output))
    evil(np.zeros((1, 28, 28, 3), np.float32))  # the code works
    assert canary.exists()
    canary.unlink()
    evil.save(tmp_path / "a.keras")
    _network(tmp_path / "a.keras")
    assert not canary.exists()


def test_a_whole_model_in_hdf5_is_refused(tmp_path, canary) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    _refused(tmp_path / "a.h5", canary, r"is a whole model.*save_weights\('NAME.weights.h5'\)")


_FIRST = "layers/conv2d/vars/0"


def _virtual(group: h5py.Group, other: Path, values: np.ndarray) -> None:
    layout = h5py.VirtualLayout(values.shape, "f4")
    layout[:] = h5py.VirtualSource(str(other), _FIRST, shape=values.shape)
    group.create_virtual_dataset("0", layout)


def _external_storage(group: h5py.Group, other: Path, values: np.ndarray) -> None:
    external = [(str(other), 0, values.nbytes)]
    group.create_dataset("0", values.shape, "f4", external=external)


def _shape_bomb(group: h5py.Group, other: Path, values: np.ndarray) -> None:
    group.create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))  # 4 TiB, without data


def _with(first: float) -> Callable:
    """Return a function that returns the weights with another first number."""
    return lambda _, other, values: np.r_[np.float64(first), values.flat[1:]].reshape(values.shape)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _, other, values: h5py.ExternalLink(other, _FIRST), "Not allowed: .*ExternalLink"),
        (lambda *_: h5py.SoftLink("/layers/conv2d_1/vars/0"), "Not allowed: .*SoftLink"),
        (_virtual, "Not allowed: .*virtual"),
        (_external_storage, "Not allowed: .*external"),
        (_shape_bomb, "declares 4.00 TB"),
        (lambda *_: "cos\nsystem", "could not convert string to float"),
        (_with(np.nan), "conv1: expected finite numbers"),
        (_with(1e300), "overflow|expected finite numbers"),  # the layer holds float32
    ],
)
def test_hdf5_but_a_plain_tree_of_numbers_is_refused(tmp_path, canary, spoil, message) -> None:
    """CVE-2026-1669 and similar: a file that reads other files or claims data that it lacks."""
    path, other = tmp_path / "a.weights.h5", tmp_path / "other.weights.h5"
    for file in (path, other):
        _network().save_weights(file)
    with h5py.File(path, "r+") as file:
        values = file[_FIRST][()]
        del file[_FIRST]
        stored = spoil(file["layers/conv2d/vars"], other, values)
        if stored is not None:
            file[_FIRST] = stored
    _refused(path, canary, message)


def test_a_pickle_is_refused_as_weights_file(tmp_path, canary) -> None:
    class Evil:
        """An object whose pickle creates the canary when it is loaded."""

        def __reduce__(self) -> tuple:
            return os.system, (f"touch {canary}",)

    path = tmp_path / "a.h5"
    path.write_bytes(pickle.dumps(Evil()))
    _refused(path, canary, "expected a whole file of Keras weights")


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_a_damaged_file_loads_or_raises_a_resource_error(tmp_path, name: str) -> None:
    """No crash and no other error may occur. Tries 12 files that are cut short or altered."""
    good = tmp_path / name
    model = _network()
    (model.save if name.endswith(".keras") else model.save_weights)(good)
    content = good.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(12):
        damaged = bytearray(content)
        if trial % 3 == 0:
            del damaged[random.integers(len(damaged)) :]
        else:  # most of the tree lies in the first and last few kilobytes
            for place in random.integers(0, 8192, 8):
                damaged[place if trial % 3 == 1 else -place - 1] ^= 1 << random.integers(8)
        good.write_bytes(damaged)
        try:
            _network(good)
        except ResourceError:
            refused += 1
    assert refused > 3
