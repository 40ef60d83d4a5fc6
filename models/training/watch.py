"""When a training ends early, and which weights it keeps. Keras is not imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Watch:
    """When a training ends early, and which weights it keeps.

    Attributes:
        over: Function that is called after each step. If it returns true, training ends with the
            best weights so far. None sets no limit.
        judge: Function that is called after each epoch and returns the loss by which the best
            weights are chosen. None for the validation loss.
        keep_last: Whether to keep the weights of the last epoch, and not those of the best one.
    """

    over: Callable[[], bool] | None = None
    judge: Callable[[keras.Model], float] | None = None
    keep_last: bool = False
