"""Tests of hyperparameter search: the first trial uses the settings, the best one scores best."""

from __future__ import annotations

import gc
import weakref

import pytest

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, DataRefused
from imgpipe.models.search import tuner as tuner_module
from imgpipe.models.search.tuner import apply, bank_tuner, best_values
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.training_loop import Diverged, fit_head
from tests.models.banks import read_split

#: Settings whose learning rate is so low that the search must find a better one.
_SETTINGS = ModelSettings.from_mapping(
    {
        "optimizer": "adam",
        "epochs": 4,
        "learning_rate": 1e-4,
        "batch_size": 32,
        "views": {"count": 2},
    }
)


@pytest.fixture(scope="module")
def bank(write_bank, tmp_path_factory):
    """Return the path of a bank of three overlapping classes."""
    return write_bank(tmp_path_factory.mktemp("bank"), spread=2.0)


@pytest.fixture(scope="module")
def rows(bank):
    """Return the training and validation rows of the bank."""
    return [read_split(bank, split, 3) for split in (names.TRAIN, names.VALIDATION)]


@pytest.fixture(scope="module")
def tuner(bank, tmp_path_factory):
    """Return a tuner after a search of six trials."""
    made = bank_tuner(_SETTINGS, 3, 6, tmp_path_factory.mktemp("tuner"))
    made.search(bank=bank)
    return made


def _trials(tuner) -> list:
    """Return the trials of a tuner in the order of their ids."""
    return sorted(tuner.oracle.trials.values(), key=lambda trial: trial.trial_id)


def test_the_first_trial_uses_the_settings(tuner, rows) -> None:
    trials = _trials(tuner)
    assert len(trials) == 6
    assert trials[0].hyperparameters.values == {
        "hidden_units": 0,
        "learning_rate": 1e-4,
        "dropout": 0.2,
        "views": 2,
    }
    alone = fit_head(*rows, 3, _SETTINGS)
    assert trials[0].score == pytest.approx(alone.best["val_loss"])


def test_the_best_trial_is_better_than_the_settings(tuner, rows) -> None:
    best = tuner.get_best_hyperparameters()[0]
    values = best_values(best.get_config())
    assert values["learning_rate"] > 1e-4
    tried = apply(_SETTINGS, values)
    found = fit_head(rows[0].up_to(tried.views.count), rows[1], 3, tried)
    assert found.best["val_loss"] < _trials(tuner)[0].score


def test_a_trial_that_diverges_does_not_end_the_search(bank, tmp_path, monkeypatch) -> None:
    calls = []

    def diverges_once(*rows, **options):
        calls.append(rows)
        if len(calls) == 1:
            raise Diverged("the loss was not finite")
        return fit_head(*rows, **options)

    monkeypatch.setattr(tuner_module, "fit_head", diverges_once)
    made = bank_tuner(_SETTINGS, 3, 2, tmp_path)
    made.search(bank=bank)
    assert [trial.status for trial in _trials(made)] == ["FAILED", "COMPLETED"]


def test_an_error_in_a_trial_is_not_hidden(bank, tmp_path, monkeypatch) -> None:
    def fails(*rows, **options):
        raise DataRefused("the split has no labelled image")

    monkeypatch.setattr(tuner_module, "fit_head", fails)
    with pytest.raises(DataRefused, match="no labelled image"):
        bank_tuner(_SETTINGS, 3, 2, tmp_path).search(bank=bank)


def test_the_heads_of_earlier_trials_are_freed(bank, tmp_path, monkeypatch) -> None:
    """Heads refer to themselves through their graphs, so that only the collector frees them."""
    heads: list[weakref.ref] = []
    alive = []

    def fitted(*rows, **options):
        alive.append(sum(head() is not None for head in heads))
        found = fit_head(*rows, **options)
        heads.append(weakref.ref(found.head))
        return found

    monkeypatch.setattr(tuner_module, "fit_head", fitted)
    gc.disable()
    try:
        bank_tuner(_SETTINGS, 3, 3, tmp_path).search(bank=bank)
    finally:
        gc.enable()
    assert max(alive) <= 1


@pytest.mark.slow
def test_a_second_search_tries_the_same_values(tuner, bank, tmp_path) -> None:
    again = bank_tuner(_SETTINGS, 3, 6, tmp_path)
    again.search(bank=bank)
    tried = [[trial.hyperparameters.values for trial in _trials(one)] for one in (tuner, again)]
    assert tried[0] == tried[1]


def test_values_are_applied_to_their_settings() -> None:
    found = apply(_SETTINGS, {"views": 1, "dropout": 0.5, "hidden_units": 128})
    assert (found.views.count, found.dropout, found.hidden_units) == (1, 0.5, 128)
    assert found.learning_rate == _SETTINGS.learning_rate
    assert apply(_SETTINGS, best_values(None)) == _SETTINGS
    with pytest.raises(ConfigError, match="Received: momentum"):
        apply(_SETTINGS, {"momentum": 0.9})
