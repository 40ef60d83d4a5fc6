"""Tests that the views, splits, network and optimizer of each preset are those of the course.

The table of the course is written out here as data, with the numbers of parameters that Keras'
`summary` counts in the networks of the course's own code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pytest

from imgpipe.models import augmentation
from imgpipe.models.errors import ConfigError
from imgpipe.models.network import classifier
from imgpipe.models.training import stages, training_loop
from imgpipe.pipeline.command_line import settings as commands

FULL = {
    "rotation": 40.0,
    "shifts": 0.2,
    "shear": 0.2,
    "zoom": 0.2,
    "horizontal_flip": True,
    "fill": "nearest",
}
TUTORIAL = {"rotation": 72.0, "shifts": 0.0, "shear": 0.0, "zoom": 0.0, "horizontal_flip": True}
RMSPROP, ADAM = "rmsprop", "adam"
FOLDER, TEST = "validation", "test"


@dataclass(frozen=True)
class Row:
    """The training of the course that a preset repeats."""

    backbone: str
    image_size: int
    optimizer: str
    learning_rate: float
    batch_size: int
    epochs: int
    dense: int  # units of the hidden layer
    classes: int
    filters: tuple[int, ...] = ()  # of the convolutions in the course's own networks
    steps: int = 0  # steps of an epoch; 0 for as many as there is data
    feature_dropout: float = 0.0  # rate of the dropout before the hidden layer
    dropout: float = 0.0  # rate of the dropout before the last layer
    augmentation: dict[str, object] | None = None
    low: float | None = None  # bounds of the accuracy that the course reached
    high: float | None = None
    target: float = 0.0  # training accuracy that ends the training
    compared_on: str = FOLDER
    trained: int = 0  # parameters that the course's network trains
    side: int = 0  # height and width of the last feature map
    pooling: str = "flatten"
    weights: str = "none"
    cut: str = ""


TABLE = {
    "cats_vs_dogs_cnn": Row(
        *("conv_16_32_64", 150, RMSPROP, 1e-3, 20, 15, 512, 2),
        filters=(16, 32, 64),
        low=0.68,  # "near 0.70"
        high=0.72,
        side=17,
        trained=9_494_561,
    ),
    "cats_vs_dogs_full": Row(
        *("conv_16_32_64", 150, RMSPROP, 1e-3, 20, 15, 512, 2),
        filters=(16, 32, 64),
        side=17,
        trained=9_494_561,
    ),
    "cats_vs_dogs_augmented": Row(
        *("conv_32_64_128_128", 150, RMSPROP, 1e-4, 20, 100, 512, 2),
        filters=(32, 64, 128, 128),
        side=7,
        augmentation=FULL,
        low=0.80,
        trained=3_453_121,
    ),
    "horses_or_humans_augmented": Row(
        *("conv_16_32_64_64_64", 300, RMSPROP, 1e-4, 128, 100, 512, 2),
        filters=(16, 32, 64, 64, 64),
        side=7,
        steps=8,
        augmentation=FULL,
        compared_on=TEST,
        trained=1_704_097,
    ),
    "cats_vs_dogs_inception": Row(
        *("inception_v3", 150, RMSPROP, 1e-4, 20, 20, 1024, 2),
        steps=100,
        dropout=0.2,
        augmentation=FULL,
        low=0.95,
        high=0.97,
        side=7,
        weights="imagenet",
        cut="mixed7",
        trained=38_537_217,
    ),
    "horses_or_humans_inception": Row(
        *("inception_v3", 150, RMSPROP, 1e-4, 20, 100, 1024, 2),
        steps=100,
        dropout=0.2,
        augmentation=FULL,
        low=0.949,
        high=1.0,
        target=0.999,
        compared_on=TEST,
        side=7,
        weights="imagenet",
        cut="mixed7",
        trained=38_537_217,
    ),
    "mobilenet_fine_tune": Row(
        *("mobilenet_v2", 160, ADAM, 1e-4, 32, 10, 0, 2),
        dropout=0.2,
        augmentation=TUTORIAL,
        side=5,
        weights="imagenet",
        pooling="average",
        trained=1_281,
    ),
    "rock_paper_scissors_cnn": Row(
        *("conv_64_64_128_128", 150, RMSPROP, 1e-3, 126, 25, 512, 3),
        filters=(64, 64, 128, 128),
        steps=20,
        feature_dropout=0.5,
        augmentation=FULL,
        low=0.75,
        high=0.98,
        compared_on=TEST,
        side=7,
        trained=3_473_475,
    ),
    "sign_mnist": Row(
        *("conv_64_64_grey", 28, ADAM, 1e-3, 32, 15, 128, 26),
        filters=(64, 64),
        augmentation=FULL,
        low=0.8425,
        high=0.8425,
        compared_on=TEST,
        side=5,
        trained=245_850,
    ),
}


def preset(name, *assignments):
    """Return the configuration of a preset, with further settings."""
    return commands.configuration(name, None, None, assignments)


def network(name):
    """Return the whole network of a preset and its settings.

    The weights are random, also where the preset uses those of ImageNet.
    """
    settings = preset(name, "model.weights=none").settings
    return stages.network(TABLE[name].classes, settings), settings


@pytest.fixture(scope="module")
def built():
    """Return a function that gives the network and the settings of a preset, each built once."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = network(name)
        return made[name]

    return make


def test_every_row_of_the_table_is_a_preset():
    assert set(commands.presets()) == {*TABLE, "transfer"}


@pytest.mark.parametrize("name", TABLE)
def test_a_preset_has_the_training_length_and_the_expectation_of_the_course(name):
    row, config = TABLE[name], preset(name)
    train = config.train
    assert (train.batch_size, train.steps_per_epoch, train.epochs, train.target_accuracy) == (
        *(row.batch_size, row.steps, row.epochs, row.target),
    )
    assert (config.expect.low, config.expect.high) == (row.low, row.high)
    assert config.expect.split == row.compared_on
    assert row.low is None or 0 < config.evaluate.threshold <= row.low
    assert (config.split.validation, config.split.test) == (0.1, 0.0), "of undivided data"
    assert (config.views.count > 0) is (row.augmentation is not None)
    settings = config.settings
    assert settings.frozen is (row.weights == "imagenet")
    assert settings.fine_tune.wanted is (name == "mobilenet_fine_tune")
    if settings.target_accuracy:
        assert settings.patience >= settings.epochs, "the target stops it, and nothing before"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.augmentation])
def test_the_views_span_the_ranges_of_the_course(name):
    """Decompose the transforms of 400 views into rotation, zoom, shear, shift and flip."""
    wanted, views, side = TABLE[name].augmentation, preset(name).views, 100.0
    assert views.count > 0
    seeds = np.array([[hash_, 1] for hash_ in range(1, 401)])
    found = augmentation.projective_transforms(seeds, np.float32(side), views.spec).numpy()
    linear, offset = found[:, [0, 1, 3, 4]].reshape(-1, 2, 2), found[:, [2, 5]]
    angle = np.arctan(linear[:, 1, 0] / linear[:, 0, 0])
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    stretched = np.einsum("ijn,njk->nik", back, linear)  # [[zoom_x, shear * zoom_y], [0, zoom_y]]
    centre = (side - 1) / 2
    moved = np.einsum("ijn,nj->ni", back, offset + linear.sum(axis=2) * centre - centre)
    for key, values in {
        "rotation": np.degrees(angle),
        "zoom": np.abs(stretched[:, [0, 1], [0, 1]]) - 1,
        "shear": stretched[:, 0, 1] / stretched[:, 1, 1],
        "shifts": moved / side,
    }.items():
        limit = wanted[key]
        assert 0.9 * limit <= np.abs(values).max() <= limit + 1e-3, key
    assert (stretched[:, 1, 1] > 0).all(), "no image is upside down"
    assert 0.4 < (stretched[:, 0, 0] < 0).mean() < 0.6, "half of the images are mirrored"


def test_sign_mnist_has_26_classes_and_allows_missing_ones():
    config = preset("sign_mnist")
    assert sorted(config.data.classes, key=int) == [str(number) for number in range(26)]
    assert config.gate.allow_missing_classes


@pytest.mark.slow
def test_fine_tuning_begins_where_the_tutorial_does_at_a_tenth_of_the_rate():
    """The tutorial trains layers 100 to 154. Block 11 begins with layer 98, and 100 is no cut."""
    import keras

    from imgpipe.models.backbones import layer_graph

    stage, first = preset("mobilenet_fine_tune").fine_tune, preset("mobilenet_fine_tune").train
    assert stage.learning_rate == pytest.approx(first.learning_rate / 10)
    assert (stage.mode, stage.epochs, stage.batch_size) == ("auto", 10, 32)
    whole = keras.applications.MobileNetV2((160, 160, 3), include_top=False, weights=None)
    assert len(whole.layers) == 154
    tutorial = {layer.name for layer in whole.layers[100:]}
    settings = preset("mobilenet_fine_tune", "model.weights=none").settings
    parts = classifier.build_parts(2, settings)
    trained = layer_graph.above(keras.Model(parts.pixels, parts.feature_map), stage.cut)
    names = {layer.name for layer in trained}
    assert names <= tutorial | {"block_11_expand"}
    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    assert {one.name for one in whole.layers[100:] if isinstance(one, convolutions)} <= names


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.filters])
def test_the_network_has_the_layers_of_the_course(name, built):
    row, (model, _) = TABLE[name], built(name)
    layers = [layer for layer in model.layers if layer.__class__.__name__ != "InputLayer"]
    assert model.input_shape == (None, row.image_size, row.image_size, 3)
    assert model.output_shape == (None, row.classes)
    assert layers[0].scale == pytest.approx(1 / 255)
    kinds = [layer.__class__.__name__ for layer in layers if "ayscale" not in layer.name]
    wanted = ["Rescaling", *["Conv2D", "MaxPooling2D"] * len(row.filters), "Flatten"]
    dense = ["Dropout", "Dense", "Dropout", "Dense"]
    assert [kind for kind in kinds if kind in {*wanted, *dense}] == [*wanted, *dense]
    found = {kind: [o for o in layers if o.__class__.__name__ == kind] for kind in kinds}
    for layer, filters in zip(found["Conv2D"], row.filters, strict=True):
        assert (layer.filters, layer.kernel_size, layer.strides) == (filters, (3, 3), (1, 1))
        assert (layer.padding, layer.activation.__name__) == ("valid", "relu")
    assert found["Conv2D"][0].input.shape[-1] == (1 if name == "sign_mnist" else 3)
    for layer in found["MaxPooling2D"]:
        assert (layer.pool_size, layer.strides, layer.padding) == ((2, 2), (2, 2), "valid")
    assert found["Flatten"][0].output.shape[-1] == row.side**2 * row.filters[-1]
    assert [layer.rate for layer in found["Dropout"]] == [row.feature_dropout, row.dropout]
    hidden, last = found["Dense"]
    assert (hidden.units, hidden.activation.__name__) == (row.dense, "relu")
    assert last.units == (1 if row.classes == 2 else row.classes)
    assert all(layer.trainable for layer in layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_a_network_has_as_many_trainable_parameters_as_in_the_course(name, built):
    model, _ = built(name)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == TABLE[name].trained


@pytest.mark.parametrize("name", ["cats_vs_dogs_inception", "horses_or_humans_inception"])
def test_inception_is_cut_at_mixed7_and_frozen(name, built):
    model, settings = built(name)
    assert model.get_layer("features").input.shape == (None, 7, 7, 768)
    head = {"classifier_hidden", "classifier"}
    assert {layer.name for layer in model.layers if layer.trainable_weights} == head
    assert model.get_layer("classifier_hidden").units == 1024
    assert model.get_layer("classifier_dropout").rate == 0.2
    assert not any(layer.__class__.__name__ == "BatchNormalization" for layer in model.layers)
    assert settings.frozen


@pytest.mark.parametrize("name", TABLE)
def test_the_optimizer_has_the_settings_of_the_course(name, built):
    row, (_, settings) = TABLE[name], built(name)
    optimizer = training_loop.optimizer(settings, steps=row.steps or 100)
    assert optimizer.__class__.__name__ == {RMSPROP: "RMSprop", ADAM: "Adam"}[row.optimizer]
    assert float(optimizer.learning_rate) == pytest.approx(row.learning_rate)
    import keras

    usual = getattr(keras.optimizers, optimizer.__class__.__name__)(row.learning_rate)
    ours, theirs = optimizer.get_config(), usual.get_config()
    del ours["name"], theirs["name"]
    assert ours == theirs


@pytest.mark.parametrize("name", commands.presets())
def test_the_file_of_a_preset_begins_with_how_to_use_it(name):
    """The comment at the top has the command, the expected result and the time."""
    text = (resources.files("imgpipe.pipeline") / "presets" / f"{name}.toml").read_text()
    head = text.split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in head)
    words = "\n".join(head)
    assert re.search(rf"^#   imgpipe run \S+ --preset {name}", words, re.MULTILINE)
    assert "# Expect" in words
    assert "Time" in words
    if name in TABLE:
        assert "# Difference from the" in words
    expect = preset(name).expect
    assert re.search(r"\d", expect.text)


def test_an_expected_range_with_low_above_high_is_refused():
    with pytest.raises(ConfigError, match=r"low must not be above high, received 0\.9 and 0\.8"):
        preset("transfer", "expect.low=0.9", "expect.high=0.8")


def test_an_unknown_preset_lists_all_presets_and_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean 'cats_vs_dogs_inception'\?") as caught:
        preset("cats_vs_dogs_incepton")
    assert all(name in str(caught.value) for name in TABLE)
