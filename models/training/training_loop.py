"""One loop that trains heads, the layers above a cut and whole networks, and when it ends.

The same data, settings and machine give exactly the same weights. A training that is interrupted
begins again in the next run.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import keras
import numpy as np

from imgpipe.models.errors import DataRefused, Diverged
from imgpipe.models.features.bank import BankRows, Regression
from imgpipe.models.head.logistic_regression import Linear
from imgpipe.models.head.solved_head import HeadSolver, Solution
from imgpipe.models.machine import process, progress
from imgpipe.models.machine.process import one_blas_thread
from imgpipe.models.names import HEAD
from imgpipe.models.network.classifier import build_head
from imgpipe.models.settings.model import ModelSettings
from imgpipe.models.training import datasets
from imgpipe.models.training.history import Epoch, Stage, StopReason


@dataclass(frozen=True)
class Watch:
    """When a training ends early, and which weights it keeps."""

    #: Called after each step: if it returns true, training ends with the best weights so far.
    over: Callable[[], bool] | None = None
    #: Returns after each epoch the loss by which the best weights are chosen, else that of
    #: validation.
    judge: Callable[[keras.Model], float] | None = None
    keep_last: bool = False  # whether the weights are those of the last epoch, not of the best one


#: A validation loss counts as lower only if it is lower by this value. Otherwise a plateau would
#: never be recognised.
MIN_DELTA: Final = 1e-4
_COMPARED: Final = "compared_loss"  # name of the loss by which epochs are compared, for Keras


class Watcher(keras.callbacks.EarlyStopping):
    """Keras' early stopping, which also records the epochs, and ends at a target or a time.

    Its arguments are those of `training_loop.fit`. Keras restores the weights of the best epoch.
    """

    def __init__(self, settings: ModelSettings, watch: Watch) -> None:
        patience = settings.patience
        super().__init__(_COMPARED, MIN_DELTA, patience, mode="min", restore_best_weights=True)
        self.epochs: list[Epoch] = []
        self.stopped: StopReason = "epochs"
        self._settings = settings
        self._watch = watch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """End the training if its time is over."""
        if self._watch.over is not None and self._watch.over():
            self._stop("minutes")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record an epoch, and keep its weights if they are the best. This may end the training."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        # JSON has no NaN.
        finite = {name: x if np.isfinite(x) else None for name, x in values.items()}
        self.epochs.append(
            {
                "epoch": epoch + 1,
                "loss": finite["loss"],
                "accuracy": finite["accuracy"],
                "val_loss": finite["val_loss"],
                "val_accuracy": finite["val_accuracy"],
            }
        )
        progress.advance(1, "epochs")
        super().on_epoch_end(epoch, {_COMPARED: self._compared_loss(epoch, values["val_loss"])})
        # The target ends the training but chooses no weights: the last ones may be far worse than
        # the best ones; see docs/benchmarks.md, "Constants of the code".
        if 0 < self._settings.target_accuracy <= values["accuracy"]:
            self._stop("target")
        elif None in finite.values():
            self._stop("diverged")
        elif self.stopped_epoch:
            self._stop("plateau")

    def _compared_loss(self, epoch: int, loss: float) -> float:
        """Return the loss by which the epoch is compared with others."""
        if not np.isfinite(loss):
            return loss
        if self._watch.keep_last:
            return float(-epoch)
        return loss if self._watch.judge is None else self._watch.judge(self.model)

    def _stop(self, why: StopReason) -> None:
        self.stopped = why
        self.model.stop_training = True


_MOMENTUM: Final = 0.9  # momentum of the optimizer "sgd"
_WARM: Final = 0.05  # share of the steps in which the cosine schedule rises


class Fit(NamedTuple):
    """A trained model and the course of its training."""

    layers: keras.Model  # with the weights of the best epoch
    stage: Stage
    solution: Solution | None = None  # how the head was found; None if it was trained by epochs


def solve_head(
    solver: HeadSolver,
    validation: BankRows,
    learning_curve: bool = True,
    regression: Regression | None = None,
) -> Fit:
    """Solves a head, evaluates it on rows of view 0, and records it like a training of one epoch.

    Without a regression, folds choose method and penalty. It raises the DataRefused of `fit`.
    """
    train = solver.rows
    classes = solver.classes
    settings = solver.settings
    _require_rows(train, validation)
    started = time.perf_counter()
    with one_blas_thread():
        linear, solution = solver.solve(learning_curve, regression)
        kernel = linear.kernel
        bias = linear.bias
        if settings.one_unit(classes):  # the head gives [0, z] instead of [a, b], with z = b - a
            kernel = kernel[:, 1:] - kernel[:, :1]
            bias = bias[1:] - bias[:1]
        loss, accuracy = _evaluated(linear, train, settings.label_smoothing)
        val_loss, val_accuracy = _evaluated(linear, validation, settings.label_smoothing)
    head = build_head(train.features.shape[1], classes, settings)
    head.get_layer(HEAD).set_weights([kernel, bias])
    epoch: Epoch = {
        "epoch": 1,
        "loss": loss,
        "accuracy": accuracy,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
    }
    return Fit(head, _course([epoch], 1, "solved", started), solution)


def _course(epochs: list[Epoch], best_epoch: int, stopped: StopReason, started: float) -> Stage:
    seconds = round(time.perf_counter() - started, 3)
    return {"epochs": epochs, "best_epoch": best_epoch, "stopped": stopped, "seconds": seconds}


def _evaluated(linear: Linear, rows: BankRows, smoothing: float) -> tuple[float, float]:
    """Return the mean loss and the accuracy of all rows; the loss is that of `fit`."""
    losses = 0.0
    right = 0
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
    watch: Watch | None = None,
) -> Fit:
    """Trains the model that `build` returns, from inputs to logits [N, classes].

    Training ends when the accuracy on the training data reaches the target. At the end, the weights
    with the lowest loss on validation are restored.

    `build` is called with the seed set and in the scope of the strategy. Without a `watch`, the
    weights with the lowest loss on validation are kept. TensorBoard's event files are written if
    there is a folder for them.

    Raises:
        DataRefused: A split has no labelled row.
        Diverged: The validation loss was never finite.
    """
    _require_rows(train, validation)
    started = time.perf_counter()
    with _deterministic(settings.seed):
        with process.device_scope(settings.strategy):
            model = _built(build, train, classes, settings)
        watcher = Watcher(settings, watch or Watch())
        callbacks: list[keras.callbacks.Callback] = [watcher]
        if log_dir is not None:
            callbacks.append(keras.callbacks.TensorBoard(str(log_dir), write_graph=False))
        progress.total(settings.epochs, "epochs")
        with warnings.catch_warnings():
            # NumPy warns of how Keras' TensorBoard callback reads the learning rate.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            model.fit(
                datasets.training(train, classes, settings),
                validation_data=datasets.validation(validation, classes),
                steps_per_epoch=datasets.steps_per_epoch(train, settings),  # of all epochs' dataset
                epochs=settings.epochs,
                callbacks=callbacks,
                shuffle=False,  # the dataset is already shuffled
                verbose=0,
            )
    if watcher.epochs[0]["val_loss"] is None:  # after which training has ended
        raise Diverged(
            "training diverged: the validation loss was not finite in any epoch. Lower the "
            "learning rate (train.learning_rate, fine_tune.learning_rate). Received: "
            f"{settings.learning_rate:g}"
        )
    return Fit(model, _course(watcher.epochs, watcher.best_epoch + 1, watcher.stopped, started))


def _built(
    build: Callable[[], keras.Model], train: datasets.Rows, classes: int, settings: ModelSettings
) -> keras.Model:
    """Build and compile the model. The head alone is trained in float32 with every policy.

    An epoch of feature vectors is one call of one graph, because its steps are too short for a call
    each. Keras cannot run several steps at once with a distributed dataset.
    """
    with process.dtype_policy(settings.precision):  # layers take the policy when they are created
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
    return model


def optimizer(settings: ModelSettings, steps: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of the settings, for a training of at most so many steps."""
    kinds = {
        "auto": keras.optimizers.Adam,  # where the head cannot be solved
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=_MOMENTUM),
    }
    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        # It rises from 0 to the rate and then falls to 0 along half a cosine (Loshchilov and Hutter
        # 2017), without restarts.
        warm = max(1, round(_WARM * steps))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warm), warmup_target=rate, warmup_steps=warm
        )
    return kinds[settings.optimizer](rate)


@contextlib.contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Set the seed, and deterministic ops in the block; later components may need other ops."""
    import tensorflow as tf
    from tensorflow.python.framework import config as tf_config  # the way back is not public

    before = tf_config.is_op_determinism_enabled()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            tf_config.disable_op_determinism()
