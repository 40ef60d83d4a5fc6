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
