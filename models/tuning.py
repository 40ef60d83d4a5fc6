"""Search for settings of the head on the bank with KerasTuner; a trial takes about a second.

The first trial is the configuration as it stands, so the best is never worse than that on
validation. Later ones follow Bayesian optimisation of the validation loss, which on small splits
tells more than accuracy does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.bank import BankRows, open_split, read_facts, require_features
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training_loop import fit_head

#: What a trial may try: widths of the hidden layer.
HIDDEN_UNITS: Final = (0, 128, 512)

_RATES: Final = (1e-4, 3e-2)
_DROPOUTS: Final = (0.0, 0.6)
_OBJECTIVE: Final = "val_loss"


def tuner_fn(fn_args: Any) -> Any:
    """KerasTuner over a bank; called by TFX's Tuner.

    Reads `fn_args.custom_config`: the Trainer's keys, and "trials", the number of trials.

    Returns:
        TFX's TunerFnResult: the tuner, and what its `search` takes.
    """
    from tfx.components.tuner.component import TunerFnResult

    config = fn_args.custom_config
    settings = ModelSettings.from_mapping(config["model"])
    classes, bank = len(config["vocabulary"]), str(config["bank_uri"])
    require_features(read_facts(bank), "tune.trials")
    trials = int(config["trials"])
    progress.total(trials, "trials")
    return TunerFnResult(
        tuner=bank_tuner(settings, classes, trials, Path(fn_args.working_dir)),
        fit_kwargs={"bank": bank},
    )


def bank_tuner(settings: ModelSettings, classes: int, trials: int, directory: Path) -> Any:
    """A keras_tuner.Tuner whose `search(bank=…)` takes the URI of a feature bank.

    The features are in a temporary file during the search, unless they are few.

    Args:
        settings: Settings of the first trial.
        classes: Number of classes.
        trials: Number of heads to train.
        directory: Folder for the state of KerasTuner.
    """
    import keras_tuner

    class BankTuner(keras_tuner.Tuner):
        """Trains a head for each trial."""

        def search(self, bank: str) -> None:
            with (
                open_split(bank, names.TRAIN, classes) as train,
                open_split(bank, names.VALIDATION, classes, most_view=0) as validation,
            ):
                super().search(train=train, validation=validation)

        def run_trial(self, trial: Any, train: BankRows, validation: BankRows) -> dict[str, float]:
            tried = apply(settings, suggested(trial.hyperparameters, settings))
            found = fit_head(train.up_to(tried.views.count), validation, classes, tried)
            progress.advance(1, "trials")
            return {name: found.best[name] for name in ("val_loss", "val_accuracy")}

    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        objective=keras_tuner.Objective(_OBJECTIVE, "min"),
        max_trials=trials,
        num_initial_points=min(trials, 5),
        seed=settings.seed + 1,  # 0 stands for a random seed
    )
    return BankTuner(oracle=oracle, directory=str(directory), project_name="head", overwrite=True)


def suggested(parameters: Any, settings: ModelSettings) -> dict[str, Any]:
    """Returns the settings of a trial; those of the first trial are `settings` unchanged.

    Args:
        parameters: keras_tuner.HyperParameters.
        settings: Settings whose values are the defaults, and so the first trial.
    """
    widths = sorted({*HIDDEN_UNITS, settings.hidden_units})
    values = {
        "hidden_units": parameters.Choice("hidden_units", widths, default=settings.hidden_units),
        "learning_rate": parameters.Float(
            "learning_rate",
            *_around(_RATES, settings.learning_rate),
            sampling="log",
            default=settings.learning_rate,
        ),
        "dropout": parameters.Float(
            "dropout", *_around(_DROPOUTS, settings.dropout), step=0.1, default=settings.dropout
        ),
    }
    if settings.views.count:
        values["views"] = parameters.Int(
            "views", 0, settings.views.count, default=settings.views.count
        )
    return values


def apply(settings: ModelSettings, values: Mapping[str, Any]) -> ModelSettings:
    """Returns the settings with the values of a trial.

    Raises:
        ConfigError: A value belongs to no setting that is searched.
    """
    given = dict(values)
    views = given.pop("views", settings.views.count)
    unknown = sorted(set(given) - {"hidden_units", "learning_rate", "dropout"})
    if unknown:
        raise ConfigError(
            "hyperparameters: expected hidden_units, learning_rate, dropout and views. "
            f"Received: {', '.join(unknown)}"
        )
    return replace(settings, **given, views=replace(settings.views, count=int(views)))


def best_values(hyperparameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the values of a KerasTuner configuration as TFX passes it on; empty without one."""
    return dict((hyperparameters or {}).get("values", {}))


def _around(limits: tuple[float, float], value: float) -> tuple[float, float]:
    """Returns the limits, widened to include the value."""
    return min(limits[0], value), max(limits[1], value)
