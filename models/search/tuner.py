"""Searches settings of the head on the feature bank with KerasTuner.

The first trial uses the configuration unchanged, so the best trial is never worse than that on
validation. Later trials follow Bayesian optimisation of the validation loss, which distinguishes
trials better than accuracy on small splits.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.errors import ConfigError
from imgpipe.models.features.bank import BankRows, open_split, read_facts, require_features
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.training_loop import Diverged, fit_head

#: Widths of the hidden layer that a trial may use.
HIDDEN_UNITS: Final = (0, 128, 512)

_RATES: Final = (1e-4, 3e-2)
_DROPOUTS: Final = (0.0, 0.6)
_OBJECTIVE: Final = "val_loss"


def tuner_fn(fn_args: Any) -> Any:
    """Create the tuner of a bank. TFX's Tuner calls this function.

    Args:
        fn_args: Arguments from TFX. `fn_args.custom_config` has the keys of the Trainer's config,
            and "trials", the number of trials.

    Returns:
        TFX's TunerFnResult: the tuner, and the arguments of its `search`.
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
    """Return a keras_tuner.Tuner whose `search(train=…, validation=…)` takes rows of a bank.

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
            try:
                with (
                    open_split(bank, names.TRAIN, classes) as train,
                    open_split(bank, names.VALIDATION, classes, most_view=0) as validation,
                ):
                    super().search(train=train, validation=validation)
            except keras_tuner.errors.FatalError as error:
                raise error.__cause__ or error from None

        def run_trial(self, trial: Any, train: BankRows, validation: BankRows) -> dict[str, float]:
            gc.collect()  # the trial before, whose graphs refer to each other and take 5 MB
            tried = apply(settings, suggested(trial.hyperparameters, settings))
            rows = train.up_to(tried.views.count)
            try:
                trained = fit_head(rows, validation, classes, tried, learning_curve=False)
            except Diverged as error:
                raise keras_tuner.errors.FailedTrialError(str(error)) from error
            except Exception as error:  # KerasTuner would hide the cause of any other error
                raise keras_tuner.errors.FatalError(str(error)) from error
            progress.advance(1, "trials")
            return {name: trained.best[name] for name in ("val_loss", "val_accuracy")}

    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        objective=keras_tuner.Objective(_OBJECTIVE, "min"),
        max_trials=trials,
        num_initial_points=min(trials, 5),
        seed=settings.seed + 1,  # 0 stands for a random seed
    )
    return BankTuner(oracle=oracle, directory=str(directory), project_name="head", overwrite=True)


def suggested(parameters: Any, settings: ModelSettings) -> dict[str, Any]:
    """Return the settings of a trial; those of the first trial are `settings` unchanged.

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
    """Return the settings with the values of a trial.

    Args:
        settings: Settings to change.
        values: Values of a trial by name.

    Raises:
        ConfigError: A value belongs to no setting that is searched.
    """
    of_head = dict(values)
    views = of_head.pop("views", settings.views.count)
    unknown = sorted(set(of_head) - {"hidden_units", "learning_rate", "dropout"})
    if unknown:
        raise ConfigError(
            "hyperparameters: expected hidden_units, learning_rate, dropout and views. "
            f"Received: {', '.join(unknown)}"
        )
    return replace(settings, **of_head, views=replace(settings.views, count=int(views)))


def best_values(hyperparameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the values in a KerasTuner configuration, as TFX passes it on.

    Args:
        hyperparameters: The configuration; None gives no values.
    """
    return dict((hyperparameters or {}).get("values", {}))


def _around(limits: tuple[float, float], value: float) -> tuple[float, float]:
    """Return the limits, widened to include the value."""
    return min(limits[0], value), max(limits[1], value)
