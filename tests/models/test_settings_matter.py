"""Tests that each training setting has an effect: two fits that differ in it differ in weights."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, DataRefused
from imgpipe.models.features.bank import BankRows
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.training_loop import Diverged, Fit, fit_head
from tests.models.banks import read_split

_BASE = {"epochs": 2, "batch_size": 16, "hidden_units": 8, "patience": 5, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def rows(write_bank, tmp_path_factory) -> list[BankRows]:
    """Return the training and validation rows of three classes, one of which is rarer in train."""
    sizes = {names.TRAIN: 12, names.VALIDATION: 6}
    bank = write_bank(tmp_path_factory.mktemp("bank"), spread=2.0, sizes=sizes)
    train, validation = (read_split(bank, split, 3) for split in (names.TRAIN, names.VALIDATION))
    few = (train.labels != 1) | (np.arange(len(train)) % 3 == 0)  # class 1 is rarer
    parts = (train.features, train.labels, train.views, train.hashes)
    return [BankRows(*(part[few] for part in parts)), validation]


def _fit(rows: list[BankRows], **settings: object) -> Fit:
    """Train a head with the base settings, which `settings` overrides."""
    return fit_head(*rows, 3, ModelSettings.from_mapping({**_BASE, **settings}))


@pytest.fixture(scope="module")
def base(rows) -> Fit:
    """Return a head that was trained with the base settings."""
    return _fit(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer": "adamw"},
        {"optimizer": "rmsprop"},
        {"optimizer": "sgd"},
        {"learning_rate": 0.02},
        {"schedule": "cosine"},
        {"batch_size": 8},
        {"steps_per_epoch": 1},
        {"label_smoothing": 0.2},
        {"balance": "class_weights"},
        {"dropout": 0.6},
        {"feature_dropout": 0.5},
        {"seed": 1},
    ],
    ids=lambda changed: "-".join(map(str, changed.values())),
)
def test_a_setting_changes_the_weights(rows, base, changed) -> None:
    found = _fit(rows, **changed)
    assert not np.array_equal(base.layers.get_weights()[0], found.layers.get_weights()[0])


def test_a_head_stays_in_float32_with_any_precision(rows, base) -> None:
    found = _fit(rows, precision="mixed_bfloat16", activation="auto")
    for one, other in zip(base.layers.get_weights(), found.layers.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_stops_at_a_target_of_training_accuracy(rows) -> None:
    fit = _fit(rows, target_accuracy=0.5, epochs=60, patience=60)
    assert fit.history["stopped"] == "target"
    assert fit.history["epochs"][-1]["accuracy"] >= 0.5
    assert all(epoch["accuracy"] < 0.5 for epoch in fit.history["epochs"][:-1])
    losses = [epoch["val_loss"] for epoch in fit.history["epochs"]]
    assert fit.history["best_epoch"] == int(np.argmin(losses)) + 1, (
        "the weights are validation's choice"
    )


def test_infinite_features_are_refused(rows) -> None:
    broken = BankRows(
        np.full_like(rows[0].features, np.inf), rows[0].labels, rows[0].views, rows[0].hashes
    )
    with pytest.raises(Diverged, match="learning rate"):
        _fit([broken, rows[1]], hidden_units=0, optimizer="adam")
    with pytest.raises(DataRefused, match="stored features are not finite"):
        _fit([broken, rows[1]], hidden_units=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feature_dropout": 0.2}, "model.hidden_units is 0"),
        (
            {"backbone": "conv_8_8", "weights": "none", "fine_tune": {"mode": "auto"}},
            "every layer trains from the start",
        ),
        ({"backbone": "efficientnet_lite"}, "unknown backbone"),
    ],
)
def test_settings_without_effect_are_refused(settings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelSettings.from_mapping(settings).check_together()


def test_class_names_that_contradict_the_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="sigmoid needs two classes"):
        ModelSettings(activation="sigmoid").check_classes(["a", "b", "c"])
    with pytest.raises(ConfigError, match="Rename its folder"):
        ModelSettings(unknown_rate=0.1).check_classes(["known", "unknown"])
    assert ModelSettings().check_classes(["known", "unknown"]) == ("known", "unknown")
