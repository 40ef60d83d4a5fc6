"""Keras callback of the training loop: records epochs, ends training, keeps the best weights."""

from __future__ import annotations

from typing import Final

import keras
import numpy as np

from imgpipe.models.machine import progress
from imgpipe.models.settings.model import ModelSettings
from imgpipe.models.training.history import Epoch, StopReason
from imgpipe.models.training.watch import Watch

#: A validation loss counts as lower only if it is lower by this value. Otherwise a plateau would
#: never be recognised.
MIN_DELTA: Final = 1e-4


class Watcher(keras.callbacks.Callback):
    """Records the epochs, ends the training and keeps the best weights.

    Keras' EarlyStopping has no target accuracy.

    Its arguments are those of `training_loop.fit`, and its attributes those of
    `history.Stage`; `best_epoch` is 0 as long as there is none.
    """

    def __init__(self, settings: ModelSettings, watch: Watch) -> None:
        super().__init__()
        self.epochs: list[Epoch] = []
        self.best_epoch = 0
        self.stopped: StopReason = "epochs"
        self._settings = settings
        self._watch = watch
        self._lowest = float("inf")
        self._best: list[np.ndarray] | None = None

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """End the training if its time is over."""
        if self._watch.over is not None and self._watch.over():
            self._stop("minutes")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record an epoch, and keep its weights if they are the best. This may end the training."""
        settings = self._settings
        values = {name: float(value) for name, value in (logs or {}).items()}
        loss = self._compared_loss(values["val_loss"])
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
        # The target ends the training but chooses no weights: the last ones may be far worse than
        # the best ones; see docs/benchmarks.md, "Constants of the code".
        reached = 0 < settings.target_accuracy <= values["accuracy"]
        if self._is_better(loss):
            self._lowest = loss
            self.best_epoch = epoch + 1
            self._best = self.model.get_weights()
        if reached:
            self._stop("target")
        elif None in finite.values():
            self._stop("diverged")
        elif epoch + 1 - self.best_epoch >= settings.patience:
            self._stop("plateau")

    def restore_best(self, model: keras.Model) -> None:
        """Set the weights of the best epoch, if there is one."""
        if self._best is not None:
            model.set_weights(self._best)

    def _compared_loss(self, loss: float) -> float:
        """Return the loss by which the epoch is compared with others."""
        if self._watch.judge is None or self._watch.keep_last or not np.isfinite(loss):
            return loss
        return self._watch.judge(self.model)

    def _is_better(self, loss: float) -> bool:
        """Whether the weights of an epoch with this loss are the best so far."""
        if not np.isfinite(loss):
            return False
        return self._watch.keep_last or loss < self._lowest - MIN_DELTA

    def _stop(self, why: StopReason) -> None:
        self.stopped = why
        self.model.stop_training = True
