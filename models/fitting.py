"""Training the head on rows of the bank: seconds, the same weights every time.

The rows stay in memory as float16; an epoch is one call of one graph (a step by itself is far too
short to be worth a trip through Python).
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

from models import progress
from models.bank import BankRows
from models.classifier import build_head
from models.errors import DataRefused
from models.settings import ModelSettings

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: A validation loss counts as lower only by this much, or a plateau would never be one.
MIN_DELTA: Final = 1e-4

#: Rows of validation a step; only memory depends on it.
_VALIDATION_ROWS: Final = 1024


@dataclass(frozen=True)
class Fit:
    """A trained head and how it came about.

    `stopped` is "target", "plateau" or "epochs"; `best_epoch` (from 1) is the one whose weights
    the head carries; each of `epochs` holds epoch, loss, accuracy, val_loss and val_accuracy.
    """

    head: keras.Model
    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str = "epochs"
    seconds: float = 0.0

    def history(self) -> dict[str, Any]:
        """What goes into history.json."""
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
        }


def fit_head(
    train: BankRows,
    validation: BankRows,
    classes: int,
    settings: ModelSettings,
    log_dir: Path | None = None,
) -> Fit:
    """Train on every row of `train`, judge on `validation` after each epoch.

    The weights of the lowest validation loss are put back at the end; reaching the target accuracy
    ends training with the weights that reached it.

    Args:
        train: Rows of all views.
        validation: Rows of the clean view.
        classes: Number of classes.
        settings: Of head and training.
        log_dir: Where TensorBoard's event files go; None writes none.

    Raises:
        DataRefused: A split has no labelled row.
    """
    import keras

    for name, rows in (("train", train), ("validation", validation)):
        if not len(rows):
            raise DataRefused(f"training needs labelled images in split {name}. Received: none")
    started = time.perf_counter()
    with _deterministic(settings.seed):
        model = build_head(train.features.shape[1], classes, settings)
        model.compile(
            optimizer=keras.optimizers.Adam(settings.learning_rate),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=settings.label_smoothing
            ),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            steps_per_execution=-(-len(train) // settings.batch_size),
            jit_compile=False,
        )
        watcher = _watcher(settings)
        callbacks = [watcher]
        if log_dir is not None:
            callbacks.append(
                keras.callbacks.TensorBoard(
                    str(log_dir), histogram_freq=0, write_graph=False, profile_batch=0
                )
            )
        progress.total(settings.epochs, "epochs")
        with _quiet():
            model.fit(
                _dataset(train, classes, settings.batch_size, settings.seed),
                validation_data=_dataset(validation, classes, _VALIDATION_ROWS, None),
                epochs=settings.epochs,
                callbacks=callbacks,
                shuffle=False,  # the dataset shuffles by itself
                verbose=0,
            )
    seconds = time.perf_counter() - started
    return Fit(model, watcher.epochs, watcher.best_epoch, watcher.stopped, seconds)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without NumPy's word on how Keras' TensorBoard callback reads the learning rate."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        yield


def _dataset(rows: BankRows, classes: int, batch: int, seed: int | None) -> tf.data.Dataset:
    """(float32 [n, dim], one-hot [n, classes]) batches; shuffled anew each epoch with a seed."""
    import tensorflow as tf

    features, labels = tf.constant(rows.features), tf.constant(rows.labels)
    indices = tf.data.Dataset.range(len(rows))
    if seed is not None:
        indices = indices.shuffle(len(rows), seed=seed, reshuffle_each_iteration=True)

    def gather(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return (
            tf.cast(tf.gather(features, index), tf.float32),
            tf.one_hot(tf.gather(labels, index), classes),
        )

    return indices.batch(batch).map(gather).prefetch(tf.data.AUTOTUNE)


def _watcher(settings: ModelSettings) -> Any:
    """A Keras callback that records, stops and restores (its class needs Keras to be imported).

    Keras' EarlyStopping knows no target, and put beside one that does it would restore the
    lowest loss over the epoch that reached the target.
    """
    import keras

    class Watcher(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.epochs: list[dict[str, float]] = []
            self.best_epoch, self.stopped = 0, "epochs"
            self._lowest, self._best = np.inf, None

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            values = {name: float(value) for name, value in (logs or {}).items()}
            self.epochs.append({"epoch": epoch + 1, **values})
            progress.advance(1, "epochs")
            target = settings.target_accuracy
            reached = target is not None and values["val_accuracy"] >= target
            if reached or self._best is None or values["val_loss"] < self._lowest - MIN_DELTA:
                self._lowest, self.best_epoch = values["val_loss"], epoch + 1
                self._best = self.model.get_weights()
            if reached:
                self.stopped, self.model.stop_training = "target", True
            elif epoch + 1 - self.best_epoch >= settings.patience:
                self.stopped, self.model.stop_training = "plateau", True

        def on_train_end(self, logs: dict[str, float] | None = None) -> None:
            if self._best is not None:
                self.model.set_weights(self._best)

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
