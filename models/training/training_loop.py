"""One loop that trains heads, the layers above a cut and whole networks, and when it ends.

The same data, settings and machine give exactly the same weights. A training that is interrupted
begins again in the next run.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Final, NamedTuple

import keras
import numpy as np
from keras.optimizers.schedules import CosineDecay

from imgpipe.models import names
from imgpipe.models.arrays import Array
from imgpipe.models.errors import DataRefused, Diverged
from imgpipe.models.features.bank import BankRows
from imgpipe.models.head import learned
from imgpipe.models.head.learned import Learned
from imgpipe.models.head.logistic_regression import Linear
from imgpipe.models.head.solved_head import HeadSolver, Solution
from imgpipe.models.machine import process, progress
from imgpipe.models.machine.process import one_blas_thread
from imgpipe.models.network.classifier import build_head, copy_weights
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training import datasets
from imgpipe.models.training.history import Epoch, Stage, StopReason

#: Returns after an epoch the loss by which it is compared with others.
Judge = Callable[[keras.Model], float]
#: A validation loss counts as lower only if it is lower by this value. Otherwise a plateau would
#: never be recognised.
MIN_DELTA: Final = 1e-4
_COMPARED: Final = "compared_loss"  # name of the loss by which epochs are compared, for Keras
_MOMENTUM: Final = 0.9  # momentum of the optimizer "sgd"
_WARM: Final = 0.05  # share of the steps in which the cosine schedule rises


class Watcher(keras.callbacks.EarlyStopping):
    """Keras' early stopping, which also records the epochs, and ends at a target.

    See `Training.fit`. Keras restores the weights of the best epoch.
    """

    def __init__(self, settings: Settings, judge: Judge | None) -> None:
        patience = settings.course.patience
        super().__init__(_COMPARED, MIN_DELTA, patience, mode="min", restore_best_weights=True)
        self.epochs: list[Epoch] = []
        self.stopped: StopReason = "epochs"
        self._settings = settings
        self._judge = judge

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
                "val_loss": finite.get("val_loss"),
                "val_accuracy": finite.get("val_accuracy"),
            }
        )
        progress.advance(1, "epochs")
        super().on_epoch_end(epoch, {_COMPARED: self._compared_loss(epoch, values)})
        # The target ends the training but chooses no weights: the last ones may be far worse than
        # the best ones; see docs/benchmarks.md, "Constants of the code".
        if 0 < self._settings.course.target_accuracy <= values["accuracy"]:
            self._stop("target")
        elif None in finite.values():
            self._stop("diverged")
        elif self.stopped_epoch:
            self._stop("plateau")

    def _compared_loss(self, epoch: int, values: dict[str, float]) -> float:
        """Return the loss by which the epoch is compared with others."""
        if not np.isfinite(values.get("val_loss", values["loss"])):
            return math.nan
        if "val_loss" not in values:  # the last weights are kept
            return float(-epoch)
        return values["val_loss"] if self._judge is None else self._judge(self.model)

    def _stop(self, why: StopReason) -> None:
        self.stopped = why
        self.model.stop_training = True


class Fit(NamedTuple):
    """A trained model and the course of its training."""

    layers: keras.Model  # with the weights of the best epoch
    stage: Stage
    solution: Solution | None = None  # how the head was found; None if it was trained by epochs


def solve_head(solver: HeadSolver, held: BankRows | None, learning_curve: bool = True) -> Fit:
    """Solves a head, evaluates it on held-out rows of view 0, and records it as one epoch."""
    train = solver.rows
    classes = solver.classes
    settings = solver.settings
    started = time.perf_counter()
    with one_blas_thread():
        linear, solution = solver.solve(learning_curve)
        kernel = linear.kernel
        bias = linear.bias
        if settings.one_unit(classes):  # the head gives [0, z] instead of [a, b], with z = b - a
            kernel = kernel[:, 1:] - kernel[:, :1]
            bias = bias[1:] - bias[:1]
        loss, accuracy = _evaluated(linear, train, settings.course.label_smoothing)
        val_loss = val_accuracy = None
        if held is not None and len(held):
            val_loss, val_accuracy = _evaluated(linear, held, settings.course.label_smoothing)
    head = build_head(train.features.shape[1], classes, settings)
    head.get_layer(names.HEAD).set_weights([kernel, bias])
    learned.note([kernel, bias], Learned.of(train.hashes, train.groups))
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
    """Return the mean loss and the accuracy of all rows; the loss is that of `Training`."""
    losses = 0.0
    right = 0
    for part, logarithms in linear.in_blocks(rows.features):
        labels = rows.labels[part]
        of_labels = logarithms[np.arange(len(labels)), labels].sum(dtype=np.float64)
        of_all = logarithms.mean(axis=1, dtype=np.float64).sum()
        losses -= float((1 - smoothing) * of_labels + smoothing * of_all)
        right += int((logarithms.argmax(axis=1) == labels).sum())
    return losses / len(rows), right / len(rows)


def require_rows(rows: Sized, split: str) -> None:
    """Raise DataRefused for a split without rows."""
    if not len(rows):
        raise DataRefused(f"training needs labelled images in split {split}. Received: none")


class Training:
    """A network that is trained once or several times. It is built, compiled and traced once.

    `build` returns it, from inputs to logits [N, classes]. It is called with the seed set and in
    the scope of the strategy.
    """

    def __init__(self, build: Callable[[], keras.Model], classes: int, settings: Settings) -> None:
        self._build = build
        self._classes = classes
        self._settings = settings
        self._model: keras.Model | None = None
        self._rate: float | CosineDecay = settings.course.learning_rate
        #: Every variable as it is after the build: weights, those of the optimizer with the scale
        #: of its loss, and the states of dropout. Zeros, as of all its moments, are one number.
        self._built: list[tuple[keras.Variable, Array]] = []

    def fit(
        self,
        train: datasets.Rows,
        validation: datasets.Rows | None,
        epochs: int,
        judge: Judge | None = None,
        log_dir: Path | None = None,
        start: keras.Model | None = None,
    ) -> Fit:
        """Trains the network for some epochs, from its first weights on, as if it was just built.

        Training ends earlier when the accuracy on the training data reaches the target. The weights
        are those of the epoch with the lowest loss on validation, or by `judge`. Without
        validation, no epoch is evaluated, and they are those of the last one. `start` gives the
        first weights of the layers of its names. TensorBoard's event files are written if there is
        a folder for them. A DataRefused says that a split has no labelled row, and Diverged that
        the loss was never finite.
        """
        require_rows(train, names.TRAIN)
        if validation is not None:
            require_rows(validation, names.VALIDATION)
        settings = self._settings.but(course={"epochs": epochs})
        steps = datasets.steps_per_epoch(train, settings)
        watcher = Watcher(settings, judge)
        callbacks: list[keras.callbacks.Callback] = [watcher]
        if log_dir is not None:
            callbacks.append(keras.callbacks.TensorBoard(str(log_dir), write_graph=False))
        started = time.perf_counter()
        with _deterministic(settings.train.seed), warnings.catch_warnings():
            # NumPy warns of how Keras' TensorBoard callback reads the learning rate.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            model = self._ready(steps, epochs, train.vectors)
            if start is not None:
                copy_weights(start, model, common=True)
            progress.total(epochs, "epochs")
            with learned.learning(model, train.learned):
                model.fit(
                    datasets.training(train, self._classes, settings),
                    validation_data=validation and datasets.validation(validation, self._classes),
                    steps_per_epoch=steps,  # of a dataset of all epochs
                    epochs=epochs,
                    callbacks=callbacks,
                    shuffle=False,  # the dataset is already shuffled
                    verbose=0,
                )
        if not np.isfinite(watcher.best):  # that of the first epoch, after which training has ended
            raise Diverged(
                "training diverged: the loss was not finite in any epoch. Lower the learning rate "
                "(course.learning_rate, course.fine_tune.learning_rate). Received: "
                f"{settings.course.learning_rate:g}"
            )
        course = _course(watcher.epochs, watcher.best_epoch + 1, watcher.stopped, started)
        return Fit(model, course)

    def _ready(self, steps: int, epochs: int, vectors: bool) -> keras.Model:
        """Return the compiled network as it is before its first step."""
        if self._model is None:
            with process.device_scope(self._settings.course.strategy):
                self._model = self._compiled(steps, epochs, vectors)
            variables = [*self._model.variables, *self._model.optimizer.variables]
            values = (variable.numpy() for variable in variables)
            self._built = [
                (variable, value if value.any() else np.zeros((), value.dtype))
                for variable, value in zip(variables, values, strict=True)
            ]
            return self._model
        self._restore()
        if isinstance(self._rate, CosineDecay):
            _stretch(self._rate, steps * epochs)
        return self._model

    def _restore(self) -> None:
        """Forget all trainings: each image that judges one would have taught the next."""
        for variable, value in self._built:
            variable.assign(np.broadcast_to(value, variable.shape))

    def _compiled(self, steps: int, epochs: int, vectors: bool) -> keras.Model:
        """Build and compile the network. The head alone is in float32 with every policy."""
        settings = self._settings
        with process.dtype_policy(settings.train.precision):  # layers take it when they are created
            model = self._build()
        self._rate = learning_rate(settings, steps * epochs)
        # The steps of feature vectors are too short for a call each, so that an epoch of them is
        # one call. Keras cannot do this with a distributed dataset.
        at_once = vectors and settings.course.strategy == "none"
        model.compile(
            optimizer=optimizer(settings, self._rate),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=settings.course.label_smoothing
            ),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            steps_per_execution=steps if at_once else 1,
            jit_compile=False,  # XLA is much slower on a CPU (tensorflow/tensorflow#62808)
        )
        # If the first step made these variables, TensorFlow would trace it twice, for seconds.
        model.optimizer.build(model.trainable_variables)
        return model


def learning_rate(settings: Settings, steps: int) -> float | CosineDecay:
    """Return the learning rate of the settings, for a training of at most so many steps."""
    if settings.course.schedule == "constant":
        return settings.course.learning_rate
    # It rises from 0 to the rate and then falls to 0 along half a cosine (Loshchilov and Hutter
    # 2017), without restarts. Its steps are variables, so that they can be changed after a step of
    # training was traced.
    falling, warm = (keras.Variable(1, trainable=False, dtype="int64") for _ in range(2))
    highest = settings.course.learning_rate
    schedule = CosineDecay(0.0, falling, warmup_target=highest, warmup_steps=warm)
    _stretch(schedule, steps)
    return schedule


def _stretch(schedule: CosineDecay, steps: int) -> None:
    """Let a schedule take a number of steps."""
    warm = max(1, round(_WARM * steps))
    schedule.warmup_steps.assign(warm)
    schedule.decay_steps.assign(max(1, steps - warm))


def optimizer(settings: Settings, rate: float | CosineDecay) -> keras.optimizers.Optimizer:
    """Return the optimizer of the settings with a learning rate."""
    kinds = {
        "auto": keras.optimizers.Adam,  # where the head cannot be solved
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=_MOMENTUM),
    }
    return kinds[settings.course.optimizer](rate)


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
