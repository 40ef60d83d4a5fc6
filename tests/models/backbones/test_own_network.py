"""Tests of a user's own network as backbone: `model.builder = "my_module:build"`."""

import importlib
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgpipe.models import backbones
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.export.saved_model import export
from imgpipe.models.network import network_file
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.settings.settings import Settings
from tests.network_settings import network_settings

_MODULE = """
import pathlib

import keras
import numpy as np

def build(side):
    pixels = keras.Input((side, side, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(pixels)
    x = keras.layers.Conv2D(5, 3, strides=2, use_bias=False, name="mine")(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(pixels, keras.layers.ReLU()(x))

def pooled(side):
    network = build(side)
    return keras.Model(network.input, keras.layers.GlobalAveragePooling2D()(network.output))

def sequential(side):
    return keras.Sequential([keras.Input((side, side, 3)), keras.layers.Conv2D(5, 3, name="mine")])

def mistaken(side):
    raise ValueError("my own mistake")

def grey(side):
    pixels = keras.Input((side, side, 1))
    return keras.Model(pixels, keras.layers.Conv2D(5, 3)(pixels))

def with_lambda(side):
    pixels = keras.Input((side, side, 3))
    return keras.Model(pixels, keras.layers.Lambda(lambda x: x / 255, name="scale")(pixels))

def clashing(side):
    pixels = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(5, 3, name="features")(pixels)
    return keras.Model(pixels, keras.layers.Conv2D(5, 3, name="classifier")(x))

def named(side):
    name = pathlib.Path("name.txt").read_text()
    pixels = keras.Input((side, side, 3), name="image" if name == "pixels" else "pixels")
    x = keras.layers.Conv2D(5, 3, strides=4, name="flat_0")(pixels)
    return keras.Model(pixels, keras.layers.ReLU(name=name)(x))

def reading(side):
    pixels = keras.Input((side, side, 3))
    x = keras.layers.Rescaling(float(np.load("factor.npy")))(pixels)
    layer = keras.layers.Conv2D(5, 3, strides=4)
    network = keras.Model(pixels, layer(x))
    layer.set_weights([np.load("kernel.npy"), np.zeros(5)])
    return network

# The weight `mask` is for training only, as in networks that learn from hidden patches; `factor`
# is a single number.
class Masked(keras.Layer):
    def build(self, shape):
        self.mask = self.add_weight(shape=(shape[-1],), initializer="normal", name="mask")
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, x, training=False):
        return x * self.factor + self.mask if training else x * self.factor

def masked(side):
    network = build(side)
    return keras.Model(network.input, Masked()(network.output))

class Uncopied(keras.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor

def uncopied(side):
    pixels = keras.Input((side, side, 3))
    return keras.Model(pixels, Uncopied(2.0)(keras.layers.Conv2D(5, 3)(pixels)))

# A layer with a weight of its own, and with layers in a nested list and behind a property.
class Block(keras.Layer):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.branches = [[keras.layers.Dense(4)], keras.layers.Dense(4), keras.layers.Dense(4)]
        self._last = keras.layers.LayerNormalization()

    @property
    def last(self):
        return self._last

    def build(self, shape):
        self.shift = self.add_weight(shape=(4,), initializer="normal")
        for layer in (self.branches[0][0], *self.branches[1:], self._last):
            layer.build(shape)

    def call(self, x):
        first, second, third = self.branches[0][0], *self.branches[1:]
        return self._last(first(x) * second(x) + third(x)) + self.shift

def nested(side):
    pixels = keras.Input((side, side, 3))
    x = keras.Input((side, side, 3))
    stem = [keras.layers.Normalization(), keras.layers.Conv2D(4, 4, strides=4)]
    stem = keras.Sequential(stem, name="stem")
    inner = keras.Model(x, keras.layers.BatchNormalization()(stem(x)), name="inner")
    inner.compile("adam", "mse")
    x = Block()(inner(pixels))
    tokens = keras.layers.Reshape((-1, 4))(x)
    tokens = keras.layers.MultiHeadAttention(2, 3, dropout=0.1)(tokens, tokens)
    return keras.Model(pixels, keras.layers.Reshape(x.shape[1:])(tokens))

number = 7
"""

_PIXELS = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "own_net.py"
    file.write_text(_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield file
    sys.modules.pop("own_net", None)


def _settings(builder: str, **others: object) -> Settings:
    return network_settings(builder=builder, weights="none", image_size=32, **others)


def test_the_own_network_replaces_the_backbone(module):
    settings = _settings("own_net:build", freeze="all")
    classifier = build_classifier(None, ["a", "b", "c"], settings)
    assert classifier.network.get_layer("mine").trainable is False
    assert classifier.network.output["features"].shape == (None, 5)
    answer = classifier.network(np.zeros((2, 32, 32, 3), np.float32))
    np.testing.assert_allclose(answer["probabilities"].numpy().sum(1), 1, atol=1e-5)
    trained = build_classifier(None, ["a", "b"], _settings("own_net:build"))
    assert trained.network.get_layer("mine").trainable


def test_changed_code_of_an_imported_module_changes_the_fingerprint(module, monkeypatch):
    package = module.parent / "own_blocks"
    package.mkdir()
    (package / "__init__.py").write_text("from .block import WIDTH\n")
    block = package / "block.py"
    block.write_text("WIDTH = 4\n")
    (module.parent / "own_importing.py").write_text(
        "import keras\n\ndef build(side):\n    from own_blocks import WIDTH\n"
        "    pixels = keras.Input((side, side, 3))\n"
        "    return keras.Model(pixels, keras.layers.Conv2D(WIDTH, 3)(pixels))\n"
    )
    for name in ("own_importing", "own_blocks", "own_blocks.block"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = backbones.Backbone("own_importing:build", weights="none").key()
    assert backbones.Backbone("own_importing:build", weights="none").key() == before
    block.write_text("WIDTH = 16\n")
    changed = backbones.Backbone("own_importing:build", weights="none")
    assert changed.key() != before
    pixels = keras.Input((32, 32, 3))
    assert changed.build(pixels)[0].shape[-1] == 16, "this process imports the code again"


def test_weights_that_the_builder_reads_are_part_of_the_key(module):
    np.save("factor.npy", 0.1)
    np.save("kernel.npy", np.ones((3, 3, 3, 5)))
    own = backbones.Backbone("own_net:reading", weights="none")
    before = own.key(32)
    keras.layers.Conv2D(1, 1)  # moves the number that Keras gives to the next one
    assert own.key(32) == before
    np.save("kernel.npy", np.full((3, 3, 3, 5), 2.0))
    other_kernel = own.key(32)
    np.save("factor.npy", 0.2)
    assert len({before, other_kernel, own.key(32)}) == 3
    random = [backbones.Backbone("own_net:build", weights="none", seed=seed) for seed in (0, 0, 1)]
    first, same, other = (backbone.key(32) for backbone in random)
    assert first == same != other


@pytest.mark.parametrize(
    "name", ["pixels", "covariance_axes_0", "covariance_flat_12", "probabilities"]
)
def test_a_layer_with_the_name_of_an_added_one_is_refused_before_images_are_read(module, name):
    own = backbones.Backbone("own_net:named", weights="none")
    Path("name.txt").write_text(name)
    with pytest.raises(ConfigError, match=rf"pixels, .*Rename the layers .* Received: {name}$"):
        own.fetch(32)


@pytest.mark.parametrize("name", ["flat_1", "covariance", "covariance_axes", "pixels_1"])
def test_all_other_names_of_layers_and_of_the_input_are_accepted(module, name):
    Path("name.txt").write_text(name)
    own = _settings("own_net:named", freeze="all", features="covariance")
    own.backbone_spec().fetch(32)
    assert build_classifier(None, ["a", "b"], own).network.get_layer(name)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
@pytest.mark.parametrize("freeze", ["all", "none"])
def test_a_weight_that_no_signature_uses_is_restored(module, tmp_path, monkeypatch, freeze):
    monkeypatch.syspath_prepend(module.parent)
    settings = _settings("own_net:masked", freeze=freeze)
    classifier = build_classifier(None, ["a", "b"], settings)
    export(classifier, str(tmp_path / "1"))
    network_file.save(classifier, settings, str(tmp_path / "1"))
    own = {"Masked": importlib.import_module("own_net").Masked}
    with keras.saving.custom_object_scope(own):
        found = network_file.load(tmp_path / "1")
    for one, other in zip(
        found.network.get_weights(), classifier.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_net:pooled", r"must return a functional keras.Model.*Received: a model from"),
        ("own_net:missing", r"own_net:missing cannot be imported"),
        ("no_such_module:build", r"No module named 'no_such_module'.*folder of PYTHONPATH"),
        ("own_net:number", r"own_net:number is not a function. Received: 7"),
        ("own_net:mistaken", r"mistaken raised an error for images of 32 .*: my own mistake\)"),
        ("own_net:grey", r"pixels \[N, 32, 32, 3\].*from \[\(None, 32, 32, 1\)\]"),
        ("own_net:with_lambda", r"layer \'scale\' of class Lambda.* Use a function of keras"),
        ("own_net:uncopied", r"class Uncopied, which cannot be copied\. Let its __init__ accept"),
        ("own_net:clashing", r"Rename the layers of the network. Received: classifier, features"),
    ],
)
def test_a_builder_that_returns_no_feature_map_is_refused(module, name, message):
    with pytest.raises(ConfigError, match=message):
        build_classifier(None, ["a", "b"], _settings(name))


def test_a_sequential_model_with_an_input_is_accepted(module):
    classifier = build_classifier(None, ["a", "b"], _settings("own_net:sequential"))
    assert classifier.network.get_layer("mine").trainable


def _copy(**choice: Any) -> Any:
    pixels = keras.Input((32, 32, 3))
    return keras.Model(pixels, backbones.Backbone(**choice).build(pixels)[0])


# When it saves weights, Keras converts TensorFlow variables in a way that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
def test_layers_inside_the_layers_of_an_own_network_load_their_weights(module, monkeypatch):
    """They get values that no new network has, and a model inside it is trained."""
    monkeypatch.syspath_prepend(module.parent)
    nested = importlib.import_module("own_net").nested(32)
    random = np.random.default_rng(0)
    for weight in nested.weights:
        weight.assign(random.uniform(0.3, 0.8, weight.shape))
    inner = nested.get_layer("inner")
    inner.get_layer("stem").layers[0].adapt(_PIXELS)
    inner.train_on_batch(_PIXELS, np.zeros((2, 8, 8, 4)))  # the file then has its optimizer too
    path = module.with_name("own.weights.h5")
    nested.save_weights(path)
    copy = _copy(name="own_net:nested", weights=str(path))
    np.testing.assert_allclose(copy(_PIXELS), nested(_PIXELS), atol=1e-4)
    with pytest.raises(ResourceError, match=r"is not of .*Layer 'mine' expected 1 variables"):
        _copy(name="own_net:build", weights=str(path))


@pytest.mark.parametrize("code", ["def build(", "raise SystemExit(3)"])
def test_a_module_whose_code_fails_is_refused(module, code):
    module.write_text(code)
    with pytest.raises(ConfigError, match="own_net cannot be imported, because its code raises"):
        backbones.Backbone("own_net:build", weights="none").key()


def test_loading_an_exported_model_does_not_run_its_builder(module, tmp_path):
    for builder in ("own_net:build", "own_net:nested"):
        settings = _settings(builder)
        classifier = build_classifier(None, ["a", "b"], settings)
        export(classifier, str(tmp_path / builder))
        network_file.save(classifier, settings, str(tmp_path / builder))
    module.write_text("raise SystemExit(3)")
    assert network_file.load(tmp_path / "own_net:build").vocabulary == ("a", "b")
    with pytest.raises(ResourceError, match="own_net:nested built cannot be built again"):
        network_file.load(tmp_path / "own_net:nested")
