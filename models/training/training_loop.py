"""Training: one loop for the head, the layers above a cut and whole networks.

The same data, settings and machine give exactly the same weights. A training that is interrupted
begins again in the next run.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imgpipe.models import distribution, progress
from imgpipe.models.errors import DataRefused
from imgpipe.models.features.bank import BankRows
from imgpipe.models.head import solved_head
from imgpipe.models.head.logistic_regression import Linear
from imgpipe.models.head.solved_head import Tried
from imgpipe.models.layer_names import HEAD
from imgpipe.models.network.classifier import build_head
from imgpipe.models.one_thread import one_blas_thread
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import datasets

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

_MOMENTUM: Final = 0.9  # momentum of the optimizer "sgd"
_WARM: Final = 0.05  # share of the steps in which the cosine schedule rises


class Diverged(DataRefused):
    """No epoch ended with a finite validation loss."""


@dataclass(frozen=True)
class Fit:
    """A trained model and the course of its training.

    Attributes:
        head: The trained model, with the weights of the best epoch.
        epochs: For each epoch: epoch, loss, accuracy, val_loss and val_accuracy. A value that was
            not finite is None.
        best_epoch: Number of the best epoch, from 1.
        stopped: Why training ended: "target", "plateau", "epochs", "minutes" or "diverged";
            "solved" for a head that was solved, which has one epoch.
        seconds: Duration of the training.
        solution: How a solved head was found; see `solved_head.Solution`. None for other models.
    """

    head: keras.Model
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str = "epochs"
    seconds: float = 0.0
    solution: dict[str, Any] | None = None

    @property
    def best(self) -> dict[str, Any]:
        """The record of the best epoch, whose weights the model has."""
        return self.epochs[self.best_epoch - 1]

    def history(self) -> dict[str, Any]:
        """Return the content of history.json."""
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            **({"solution": self.solution} if self.solution else {}),
        }


def fit_head(
    train: BankRows,
    validation: BankRows,
    classes: int,
    settings: ModelSettings,
    log_dir: Path | None = None,
    learning_curve: bool = True,
    tried: Tried | None = None,
) -> Fit:
    """Trains a head on every row of `train`, or solves it if `settings.solved` says so.

    A head that is trained by epochs is evaluated on `validation` after each of them.

    Args:
        train: Rows of all views.
        validation: Rows of view 0.
        classes: Number of classes.
        settings: Settings of head and training.
        log_dir: Folder for TensorBoard's event files; None writes none.
        learning_curve: Whether to compute the learning curve of a solved head.
        tried: Scores of the folds of the bank; see `solved_head.solve`.

    Returns:
        The head and the course of its training.

    Raises:
        DataRefused: A split has no labelled row.
    """
    dim = train.features.shape[1]
    if settings.solved:
        with one_blas_thread():
            return _solved(train, validation, classes, settings, learning_curve, tried)
    return fit(
        lambda: build_head(dim, classes, settings),
        datasets.Rows(train.features, train.labels),
        datasets.Rows(validation.features, validation.labels),
        classes,
        settings,
        log_dir,
    )


def _solved(
    train: BankRows,
    validation: BankRows,
    classes: int,
    settings: ModelSettings,
    learning_curve: bool,
    tried: Tried | None,
) -> Fit:
    """Return a head with the weights of the solution, recorded like a training of one epoch."""
    _require_rows(train, validation)
    started = time.perf_counter()
    solution = solved_head.solve(train, classes, settings, learning_curve, tried)
    kernel, bias = solution.linear.kernel, solution.linear.bias
    if settings.one_unit(classes):  # the head gives [0, z] instead of [a, b], with z = b - a
        kernel, bias = kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
    head = build_head(train.features.shape[1], classes, settings)
    head.get_layer(HEAD).set_weights([kernel, bias])
    epoch: dict[str, Any] = {"epoch": 1}
    for prefix, rows in (("", train), ("val_", validation)):
        loss, accuracy = _evaluated(solution.linear, rows, settings.label_smoothing)
        epoch |= {f"{prefix}loss": loss, f"{prefix}accuracy": accuracy}
    seconds = time.perf_counter() - started
    return Fit(head, [epoch], 1, "solved", seconds, solution=solution.facts)


def _evaluated(linear: Linear, rows: BankRows, smoothing: float) -> tuple[float, float]:
    """Return the mean loss and the accuracy of all rows; the loss is that of `fit`."""
    losses, right = 0.0, 0
    for part, logarithms in linear.in_blocks(rows.features):
        labels = rows.labels[part]
        of_labels = logarithms[np.arange(len(labels)), labels].sum(dtype=np.float64)
        of_all = logarithms.mean(axis=1, dtype=np.float64).sum()
        losses -= float((1 - smoothing) * of_labels + smoothing * of_all)
        right += int((logarithms.argmax(axis=1) == labels).sum())
    return losses / len(rows), right / len(rows)


def _require_rows(train: Sized, validation: Sized) -> None:
    for name, rows in (("train", train), ("validation", validation)):
        if not len(rows):
            raise DataRefused(f"training needs labelled images in split {name}. Received: none")


def fit(
    build: Callable[[], keras.Model],
    train: datasets.Rows,
    validation: datasets.Rows,
    classes: int,
    settings: ModelSettings,
    log_dir: Path | None = None,
    over: Callable[[], bool] | None = None,
    judge: Callable[[keras.Model], float] | None = None,
    keep_last: bool = False,
) -> Fit:
    """Trains the model that `build` returns, from inputs to logits [N, classes].

    At the end, the weights with the lowest loss on validation are restored. If the validation
    accuracy reaches the target, training ends with the weights that reached it.

    Args:
        build: Returns the model with its initial weights. It is called with the seed set and in the
            scope of the strategy.
        train: Data to train on.
        validation: Data to evaluate on after each epoch.
        classes: Number of classes.
        settings: Settings of the training.
        log_dir: Folder for TensorBoard's event files; None writes none.
        over: Function that is called after each step. If it returns true, training ends with the
            best weights so far. None sets no limit.
        judge: Function that is called after each epoch and returns the loss by which the best
            weights are chosen. None for the validation loss.
        keep_last: Whether to keep the weights of the last epoch, and not those of the best one.

    Returns:
        The model and the course of its training.

    Raises:
        DataRefused: A split has no labelled row.
        Diverged: The validation loss was never finite.
    """
    from imgpipe.models.training.watcher import Watcher  # imports Keras

    _require_rows(train, validation)
    started = time.perf_counter()
    with _deterministic(settings.seed):
        with distribution.scope(settings.strategy):
            model = _built(build, train, classes, settings)
        watcher = Watcher(settings, over, judge, keep_last)
        callbacks = [watcher] if log_dir is None else [watcher, _tensorboard(log_dir)]
        progress.total(settings.epochs, "epochs")
        _run_epochs(model, train, validation, classes, settings, callbacks)
        watcher.restore_best(model)
    if not watcher.best_epoch:
        raise Diverged(
            "training diverged: the validation loss was not finite in any epoch. Lower the "
            "learning rate (train.learning_rate, fine_tune.learning_rate). Received: "
            f"{settings.learning_rate:g}"
        )
    seconds = time.perf_counter() - started
    return Fit(model, watcher.epochs, watcher.best_epoch, watcher.stopped, seconds)


def _built(
    build: Callable[[], keras.Model], train: datasets.Rows, classes: int, settings: ModelSettings
) -> keras.Model:
    """Build and compile the model. The head alone is trained in float32 with every policy.

    An epoch of feature vectors is one call of one graph, because its steps are too short for a call
    each. Keras cannot run several steps at once with a distributed dataset.
    """
    import keras

    with distribution.policy(settings.precision):  # layers take the policy when they are created
        model = build()
    steps = datasets.steps_per_epoch(train, settings)
    at_once = train.vectors and settings.strategy == "none"
    model.compile(
        optimizer=optimizer(settings, steps * settings.epochs),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=settings.label_smoothing
        ),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        steps_per_execution=steps if at_once else 1,
        jit_compile=False,  # XLA is much slower on a CPU (tensorflow/tensorflow#62808)
    )
    if settings.strategy == "multi_worker":
        distribution.let_keras_fit(model, datasets.training(train, classes, settings))
    return model


def _run_epochs(
    model: keras.Model,
    train: datasets.Rows,
    validation: datasets.Rows,
    classes: int,
    settings: ModelSettings,
    callbacks: list[Any],
) -> None:
    """Trains the compiled model."""
    with warnings.catch_warnings():
        # NumPy warns of how Keras' TensorBoard callback reads the learning rate.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        model.fit(
            datasets.training(train, classes, settings),
            validation_data=datasets.validation(validation, classes),
            steps_per_epoch=datasets.steps_per_epoch(train, settings),  # of a dataset of all epochs
            epochs=settings.epochs,
            callbacks=callbacks,
            shuffle=False,  # the dataset is already shuffled
            verbose=0,
        )


def optimizer(settings: ModelSettings, steps: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of the settings.

    Args:
        settings: Settings with the optimizer, the learning rate and its schedule.
        steps: Largest number of steps of the training.
    """
    import keras

    kinds = {
        "auto": keras.optimizers.Adam,  # where the head cannot be solved
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=_MOMENTUM),
    }
    rate = settings.learning_rate
    return kinds[settings.optimizer](
        rate if settings.schedule == "constant" else _cosine(rate, steps)
    )


def _cosine(rate: float, steps: int) -> Any:
    """Return a schedule that rises from 0 to the rate and then falls to 0 along half a cosine.

    This is the schedule of Loshchilov and Hutter 2017, without restarts.
    """
    import keras

    warm = max(1, round(_WARM * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm), warmup_target=rate, warmup_steps=warm
    )


def _tensorboard(log_dir: Path) -> Any:
    import keras

    return keras.callbacks.TensorBoard(
        str(log_dir), histogram_freq=0, write_graph=False, profile_batch=0
    )


@contextlib.contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Set the seed and deterministic ops, and restore the global setting of the ops afterwards.

    Later components may need other ops. TensorFlow has no public function that reverts
    `enable_op_determinism`.
    """
    import keras
    import tensorflow as tf
    from tensorflow.python.framework import config as tf_config

    before = tf_config.is_op_determinism_enabled()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            tf_config.disable_op_determinism()
