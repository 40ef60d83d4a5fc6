"""Tests of training the head: it learns, stops, restores the best weights, and is repeatable."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from imgpipe.models import names
from imgpipe.models.errors import DataRefused, Diverged
from imgpipe.models.features.bank import BankRows, read_rows
from imgpipe.models.network.classifier import add_head, build_head
from imgpipe.models.training import datasets
from imgpipe.models.training.training_loop import Fit, Training, learning_rate, optimizer
from tests.models.banks import best, fit_head, write_bank
from tests.network_settings import network_settings

_QUICK = {
    "optimizer": "adam",
    "learning_rate": 0.02,
    "epochs": 12,
    "batch_size": 32,
    "patience": 12,
}
_BASE = {"epochs": 2, "batch_size": 16, "hidden_units": 8, "patience": 5, "learning_rate": 0.01}


def _rows(bank: str, classes: int) -> tuple[BankRows, BankRows]:
    return read_rows(bank, names.TRAIN, classes), read_rows(bank, names.VALIDATION, classes)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> tuple[BankRows, BankRows]:
    return _rows(write_bank(tmp_path_factory.mktemp("bank")), 3)


def _fit(rows: tuple[BankRows, BankRows], classes: int = 3, **settings: object) -> Fit:
    return fit_head(*rows, classes, network_settings(**{**_QUICK, **settings}))


@pytest.mark.parametrize(
    ("classes", "settings", "units"),
    [(2, {}, 1), (2, {"activation": "softmax"}, 2), (3, {}, 3), (3, {"hidden_units": 8}, 3)],
    ids=str,
)
def test_a_head_learns_separable_classes(tmp_path, classes, settings, units) -> None:
    rows = _rows(write_bank(tmp_path, classes=classes), classes)
    fit = _fit(rows, classes, **settings)
    assert best(fit)["val_accuracy"] > 0.95
    assert set(best(fit)) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    assert fit.layers.get_layer("classifier").units == units
    logits = fit.layers.predict_on_batch(rows[1].features.astype(np.float32))
    assert logits.shape == (len(rows[1]), classes)
    assert (logits.argmax(1) == rows[1].labels).mean() == pytest.approx(best(fit)["val_accuracy"])


def test_the_same_data_gives_the_same_weights(rows) -> None:
    first, second = (_fit(rows, epochs=4, seed=3) for _ in range(2))
    for a, b in zip(first.layers.get_weights(), second.layers.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.stage["epochs"] == second.stage["epochs"]


def test_the_cosine_schedule_rises_and_falls_to_zero(rows) -> None:
    settings = {"schedule": "cosine", "epochs": 4, "learning_rate": 0.02}
    steps = 4 * -(-len(rows[0]) // _QUICK["batch_size"])
    given = network_settings(**{**_QUICK, **settings})
    made = optimizer(given, learning_rate(given, steps))
    rates = []
    for step in range(steps + 1):
        made.iterations.assign(step)
        rates.append(float(made.learning_rate))
    assert rates[0] == 0 and max(rates) == pytest.approx(0.02)
    top = rates.index(max(rates))
    assert top == max(1, round(steps / 20))
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    fit = _fit(rows, **settings)
    assert len(fit.stage["epochs"]) == 4
    assert best(fit)["val_accuracy"] > 0.95


def test_training_stops_on_a_plateau_and_restores_the_best_weights(tmp_path) -> None:
    hard = _rows(write_bank(tmp_path, spread=3.0, images=8), 3)
    fit = _fit(hard, learning_rate=0.3, epochs=200, patience=4)
    assert fit.stage["stopped"] == "plateau"
    assert len(fit.stage["epochs"]) == fit.stage["best_epoch"] + 4
    losses = [epoch["val_loss"] for epoch in fit.stage["epochs"]]
    assert fit.stage["best_epoch"] == int(np.argmin(losses)) + 1
    logits = fit.layers.predict_on_batch(hard[1].features.astype(np.float32)).astype(np.float64)
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = -log[np.arange(len(hard[1])), hard[1].labels].mean()
    assert loss == pytest.approx(min(losses), rel=1e-3)


def test_the_best_weights_are_those_with_the_lowest_judged_loss(rows) -> None:
    train, validation = rows
    settings = network_settings(**{**_QUICK, "epochs": 4})
    judged = iter([3.0, 1.0, 2.0, 4.0])  # the validation loss falls in every epoch
    weights: list[list[np.ndarray]] = []

    def judge(model: Any) -> float:
        weights.append(model.get_weights())
        return next(judged)

    training = Training(lambda: build_head(train.features.shape[1], 3, settings), 3, settings)
    labelled = [datasets.Rows(part.features, part.labels) for part in (train, validation)]
    found = training.fit(*labelled, settings.course.epochs, judge)
    losses = [epoch["val_loss"] for epoch in found.stage["epochs"]]
    assert losses == sorted(losses, reverse=True)
    assert found.stage["best_epoch"] == 2
    for restored, of_epoch in zip(found.layers.get_weights(), weights[1], strict=True):
        np.testing.assert_array_equal(restored, of_epoch)


@pytest.mark.parametrize("split", [0, 1])
def test_a_split_without_rows_is_refused(rows, split: int) -> None:
    full = rows[split]
    empty = full.select(np.arange(0))
    pair = (empty, rows[1]) if split == 0 else (rows[0], empty)
    with pytest.raises(DataRefused, match="split " + ("train", "validation")[split]):
        _fit(pair)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> tuple[BankRows, BankRows]:
    """Return the training and validation rows of three classes, one of which is rarer in train."""
    sizes = {names.TRAIN: 12, names.VALIDATION: 6}
    bank = write_bank(tmp_path_factory.mktemp("bank"), spread=2.0, sizes=sizes)
    train, validation = _rows(bank, 3)
    return train.select((train.labels != 1) | (np.arange(len(train)) % 3 == 0)), validation


@pytest.fixture(scope="module")
def base(uneven) -> Fit:
    return _fit(uneven, **_BASE)


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
def test_a_setting_changes_the_weights(uneven, base, changed) -> None:
    found = _fit(uneven, **_BASE | changed)
    assert not np.array_equal(base.layers.get_weights()[0], found.layers.get_weights()[0])


def test_a_head_stays_in_float32_with_any_precision(uneven, base) -> None:
    found = _fit(uneven, **_BASE, precision="mixed_bfloat16", activation="auto")
    for one, other in zip(base.layers.get_weights(), found.layers.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_stops_at_a_target_of_training_accuracy(uneven) -> None:
    changed = {"target_accuracy": 0.5, "epochs": 60, "patience": 60}
    fit = _fit(uneven, **_BASE | changed)
    assert fit.stage["stopped"] == "target"
    assert fit.stage["epochs"][-1]["accuracy"] >= 0.5
    assert all(epoch["accuracy"] < 0.5 for epoch in fit.stage["epochs"][:-1])
    losses = [epoch["val_loss"] for epoch in fit.stage["epochs"]]
    assert fit.stage["best_epoch"] == int(np.argmin(losses)) + 1


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [("adam", Diverged, "learning rate"), ("auto", DataRefused, "features are not finite")],
)
def test_infinite_features_are_refused(rows, optimizer, error, message) -> None:
    broken = replace(rows[0], features=np.full_like(rows[0].features, np.inf))
    with pytest.raises(error, match=message):
        _fit((broken, rows[1]), optimizer=optimizer)


def _weights(fit: Fit) -> list[bytes]:
    """Return the bytes of all weights, which a later training of the same network changes."""
    return [np.asarray(value).tobytes() for value in fit.layers.get_weights()]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_training_learns_nothing_from_the_one_before(tmp_path, schedule, precision) -> None:
    """Both begin with the head alone, as the networks of the folds of a search do."""
    changed = {"schedule": schedule, "precision": precision, "epochs": 3, "dropout": 0.5}
    settings = network_settings(**{**_QUICK, **changed})
    train, validation = _rows(write_bank(tmp_path), 3)
    dim = train.features.shape[1]
    start = build_head(dim, 3, settings)
    built: list[keras.Model] = []

    def build() -> keras.Model:
        features = keras.Input((dim,))
        below = keras.layers.Dense(dim, activation="relu", name="below")(features)
        normal = keras.layers.BatchNormalization(name="normal")(below)
        built.append(keras.Model(features, add_head(normal, 3, settings)))
        return built[-1]

    def of(rows: BankRows) -> datasets.Rows:
        return datasets.Rows(rows.features, rows.labels)

    first = of(train.select(train.labels != 2))
    second = of(train.select(train.labels != 0))
    alone = Training(build, 3, settings).fit(second, of(validation), 3, start=start)
    expected = _weights(alone)
    after = Training(build, 3, settings)
    assert len(after.fit(first, None, 2, start=start).stage["epochs"]) == 2
    again = after.fit(second, of(validation), 3, start=start)
    assert again.stage["epochs"] == alone.stage["epochs"]
    assert _weights(again) == expected
    assert len(built) == 2, "each is built once"
