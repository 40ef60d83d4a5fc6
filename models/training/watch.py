"""When a training ends early, and which weights it keeps. Keras is not imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Watch:
    """When a training ends early, and which weights it keeps."""

    #: Called after each step: if it returns true, training ends with the best weights so far.
    over: Callable[[], bool] | None = None
    #: Returns after each epoch the loss by which the best weights are chosen, else that of
    #: validation.
    judge: Callable[[keras.Model], float] | None = None
    keep_last: bool = False  # whether the weights are those of the last epoch, not of the best one
