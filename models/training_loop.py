"""Training: one loop for the head, the layers above a cut and whole networks.

The same data, settings and machine give the same weights bit for bit, interrupted or not: an
epoch depends on the seed and its number, and what is carried from one to the next is kept in a
checkpoint.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imgpipe.models import datasets, distribution, progress, row_file, solved_head
from imgpipe.models.bank import BankRows
from imgpipe.models.checkpoints import Checkpoint
from imgpipe.models.classifier import HEAD, build_head
from imgpipe.models.errors import DataRefused
from imgpipe.models.logistic_regression import Linear
from imgpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

#: A validation loss counts as lower only by this much, or a plateau would never be one.
MIN_DELTA: Final = 1e-4

_ROWS_AT_ONCE: Final = 8192  # of an evaluation; only memory depends on it
_MOMENTUM: Final = 0.9  # of "sgd"
_WARM: Final = 0.05  # share of the steps in which the cosine schedule rises


class Diverged(DataRefused):
    """No epoch ended with a finite validation loss."""


@dataclass(frozen=True)
class Fit:
    """A trained model and how it came about.

    `stopped` is "target", "plateau", "epochs", "minutes" or "diverged"; `best_epoch` (from 1) is
    the one whose weights the model carries; each of `epochs` holds epoch, loss, accuracy, val_loss
    and val_accuracy, None for what was not finite.
    `resumed` is the epoch (from 1) that training went on at, 0 where it began at the beginning.
    A head that was solved has one epoch, `stopped` is "solved", and `solution` says how it was
    found; see `solved_head.Solution`.
    """

    head: keras.Model
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str = "epochs"
    seconds: float = 0.0
    resumed: int = 0
    solution: dict[str, Any] | None = None

    @property
    def best(self) -> dict[str, Any]:
        """The record of the epoch whose weights the model has."""
        return self.epochs[self.best_epoch - 1]

    def history(self) -> dict[str, Any]:
        """Returns the content of history.json."""
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "resumed": self.resumed,
            **({"solution": self.solution} if self.solution else {}),
        }


def fit_head(
    train: BankRows,
    validation: BankRows,
    classes: int,
    settings: ModelSettings,
    log_dir: Path | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Trains a head on every row of `train`, or solves it where `settings.solved` says so.

    A head that is trained is evaluated on `validation` after each epoch.

    Args:
        train: Rows of all views.
        validation: Rows of the clean view.
        classes: Number of classes.
        settings: Settings of head and training.
        log_dir: Folder for TensorBoard's event files; None writes none.
        checkpoint: Checkpoint to resume from and to write; None starts from the beginning.

    Raises:
        DataRefused: A split has no labelled row.
    """
    dim = train.features.shape[1]
    if settings.solved:
        return _solved(train, validation, classes, settings)
    return fit(
        lambda: build_head(dim, classes, settings),
        datasets.Vectors(train.features, train.labels),
        datasets.Vectors(validation.features, validation.labels),
        classes,
        settings,
        log_dir,
        checkpoint,
    )


def _solved(train: BankRows, validation: BankRows, classes: int, settings: ModelSettings) -> Fit:
    """A head with the weights of the solution, recorded like a training of one epoch."""
    _require_rows(train, validation)
    started = time.perf_counter()
    solution = solved_head.solve(train, classes, settings)
    kernel, bias = solution.linear.kernel, solution.linear.bias
    if settings.one_unit(classes):  # the logits [0, z] of the head stand for [a, b] with z = b - a
        kernel, bias = kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
    head = build_head(train.features.shape[1], classes, settings)
    head.get_layer(HEAD).set_weights([kernel, bias])
    epoch: dict[str, Any] = {"epoch": 1}
    for prefix, rows in (("", train), ("val_", validation)):
        loss, accuracy = _evaluated(solution.linear, rows)
        epoch |= {f"{prefix}loss": loss, f"{prefix}accuracy": accuracy}
    seconds = time.perf_counter() - started
    return Fit(head, [epoch], 1, "solved", seconds, solution=solution.facts)


def _evaluated(linear: Linear, rows: BankRows) -> tuple[float, float]:
    """Mean loss and accuracy of all rows."""
    losses, right = 0.0, 0
    for part, block in row_file.blocks(rows.features, _ROWS_AT_ONCE):
        labels, found = rows.labels[part], linear.log_probabilities(block)
        losses -= float(found[np.arange(len(labels)), labels].sum(dtype=np.float64))
        right += int((found.argmax(axis=1) == labels).sum())
    return losses / len(rows), right / len(rows)


def _require_rows(train: datasets.Labelled, validation: datasets.Labelled) -> None:
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
    checkpoint: Checkpoint | None = None,
    over: Callable[[], bool] | None = None,
) -> Fit:
    """Trains the model that `build` returns, from inputs to logits [N, classes].

    The weights of the lowest validation loss are put back at the end; reaching the target accuracy
    ends training with the weights that reached it.

    Args:
        build: Returns the model with its initial weights; called with the seed set and in the
            scope of the strategy.
        train: Data to train on.
        validation: Data to evaluate on after each epoch.
        classes: Number of classes.
        settings: Settings of the training.
        log_dir: Folder for TensorBoard's event files; None writes none.
        checkpoint: Checkpoint to resume from and to write; None starts from the beginning.
        over: Says after each step whether training ends with the best weights so far; None sets no
            limit.

    Raises:
        DataRefused: A split has no labelled row.
        Diverged: The validation loss was never finite.
    """
    _require_rows(train, validation)
    started = time.perf_counter()
    with _deterministic(settings.seed):
        with distribution.scope(settings.strategy):
            # The head alone stays in float32, whatever the policy.
            with distribution.policy(settings.precision):
                model = build()
            _compile(model, settings, datasets.steps_per_epoch(train, settings), train)
            if settings.strategy == "multi_worker":
                distribution.let_keras_fit(model, datasets.training(train, classes, settings))
            watcher = _watcher(settings, checkpoint, over)
            first = watcher.resume(model)
        callbacks = [watcher]
        if log_dir is not None:
            callbacks.append(_tensorboard(log_dir))
        progress.total(settings.epochs, "epochs")
        progress.advance(first, "epochs")
        if first < settings.epochs and watcher.stopped == "epochs":
            with _quiet():
                model.fit(
                    datasets.training(train, classes, settings, first),
                    validation_data=datasets.validation(validation, classes),
                    steps_per_epoch=datasets.steps_per_epoch(train, settings),
                    initial_epoch=first,
                    epochs=settings.epochs,
                    callbacks=callbacks,
                    shuffle=False,  # the dataset shuffles by itself
                    verbose=0,
                )
        watcher.restore_best(model)
    if not watcher.best_epoch:
        raise Diverged(
            "training diverged: the validation loss was not finite in any epoch. Lower the "
            "learning rate (train.learning_rate, fine_tune.learning_rate). Received: "
            f"{settings.learning_rate:g}"
        )
    if checkpoint is not None:
        checkpoint.remove()
    seconds = time.perf_counter() - started
    return Fit(model, watcher.epochs, watcher.best_epoch, watcher.stopped, seconds, first)


def _compile(model: keras.Model, settings: ModelSettings, steps: int, train: datasets.Rows) -> None:
    """An epoch of vectors is one call of one graph: its steps are too short for a trip each.

    (Keras cannot take several steps at once from a distributed dataset.)
    """
    import keras

    at_once = isinstance(train, datasets.Vectors) and settings.strategy == "none"
    model.compile(
        optimizer=optimizer(settings, steps * settings.epochs),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=settings.label_smoothing
        ),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        steps_per_execution=steps if at_once else 1,
        jit_compile=False,
    )


def optimizer(settings: ModelSettings, steps: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of the settings, for a training of at most so many steps."""
    import keras

    kinds = {
        "auto": keras.optimizers.Adam,
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
    """From 0 up to the rate in the first steps, then down to 0 along half a cosine.

    It depends on the number of the step alone, which the optimizer carries, so a training that
    goes on has the rate that it would have had. (Loshchilov and Hutter 2017, without restarts.)
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
def _quiet() -> Iterator[None]:
    """Without NumPy's word on how Keras' TensorBoard callback reads the learning rate."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        yield


def _watcher(
    settings: ModelSettings,
    checkpoint: Checkpoint | None,
    over: Callable[[], bool] | None = None,
) -> Any:
    """A Keras callback that records, stops, restores and keeps the checkpoint.

    (Its class needs Keras to be imported.) Keras' EarlyStopping knows no target, and put beside
    one that does it would restore the lowest loss over the epoch that reached the target; its
    BackupAndRestore keeps neither the best weights nor the history.
    """
    import keras

    class Watcher(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.epochs: list[dict[str, Any]] = []
            self.best_epoch, self.stopped = 0, "epochs"
            self._lowest = float("inf")
            self._best: list[np.ndarray] | None = None

        def resume(self, model: keras.Model) -> int:
            """The number of epochs that are done already, with all that they left behind."""
            kept = checkpoint.read(model) if checkpoint is not None else None
            if kept is None:
                return 0
            self._best = kept.best
            self.epochs = list(kept.facts["epochs"])
            self.best_epoch = int(kept.facts["best_epoch"])
            self.stopped = str(kept.facts["stopped"])
            self._lowest = float(kept.facts["lowest"])
            return len(self.epochs)

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            if over is not None and over():
                self.stopped, self.model.stop_training = "minutes", True

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            own = {name: float(value) for name, value in (logs or {}).items()}
            values = distribution.agreed(own, settings.strategy)
            said = {name: v if np.isfinite(v) else None for name, v in values.items()}
            self.epochs.append({"epoch": epoch + 1, **said})
            progress.advance(1, "epochs")
            target = settings.target_accuracy
            prefix = "val_" if settings.target_on == "validation" else ""
            reached = target > 0 and values[f"{prefix}accuracy"] >= target
            finite = bool(np.isfinite(values["val_loss"]))
            lower = finite and values["val_loss"] < self._lowest - MIN_DELTA
            if lower or (finite and reached and settings.target_on == "validation"):
                self._lowest, self.best_epoch = values["val_loss"], epoch + 1
                self._best = self.model.get_weights()
            if reached:
                self.stopped, self.model.stop_training = "target", True
            elif not all(map(np.isfinite, values.values())):
                self.stopped, self.model.stop_training = "diverged", True
            elif epoch + 1 - self.best_epoch >= settings.patience:
                self.stopped, self.model.stop_training = "plateau", True
            if checkpoint is not None and self._best is not None:
                facts = {
                    "epochs": self.epochs,
                    "best_epoch": self.best_epoch,
                    "stopped": self.stopped,
                    "lowest": self._lowest,
                }
                checkpoint.write(self.model, self._best, facts)

        def restore_best(self, model: keras.Model) -> None:
            if self._best is not None:
                model.set_weights(self._best)

    return Watcher()


@contextlib.contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Seeded, and with deterministic ops; the latter is global and put back for later components.

    TensorFlow offers no public way back from `enable_op_determinism`.
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
