"""Checkpoints, from which an interrupted training resumes. A checkpoint is one file.

It contains everything that an epoch passes on to the next: the weights, the state of the optimizer
and of the random generators, the best weights so far and the history. A training that was
interrupted therefore ends with the same weights as one that was not. The file is replaced as a
whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pydantic
from pydantic import ConfigDict, Field

from imgpipe.models.files import json_object
from imgpipe.models.files.array_archive import DAMAGED
from imgpipe.models.files.atomic_write import writing

if TYPE_CHECKING:
    import keras

#: Shortest time between two writes, so that short epochs do not each write a file.
SECONDS_APART: Final = 5.0

Arrays = list[npt.NDArray[Any]]
Stopped = Literal["target", "plateau", "epochs", "minutes", "diverged"]


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Course:
    """The course of a training so far.

    Attributes:
        epochs: The records of the epochs, as in `training_loop.Fit`.
        best_epoch: Number of the best epoch, from 1.
        stopped: Why the training ended, as in `training_loop.Fit`.
        lowest: Lowest validation loss.
    """

    epochs: list[dict[str, int | float | None]]
    best_epoch: Annotated[int, Field(ge=1)]
    stopped: Stopped
    lowest: float


class Checkpoint:
    """The checkpoint of one training.

    Args:
        path: The file; its folder is created at the first write.
        key: Hash of everything that decides the training. A file with another key is ignored.
        seconds_apart: Shortest time between two writes, in seconds.

    Attributes:
        key: The key.
    """

    def __init__(self, path: Path, key: str, seconds_apart: float = SECONDS_APART) -> None:
        self._path, self.key, self._apart = path, key, seconds_apart
        self._written = time.monotonic()

    def read(self, model: keras.Model) -> tuple[Arrays, Course] | None:
        """Restores the state of the model and of its optimizer from the checkpoint.

        Args:
            model: A compiled model with the same layers as the one that was saved.

        Returns:
            The rest of the checkpoint; None when there is no checkpoint of this training, or it is
            damaged. The weights of the model are unchanged then.
        """
        try:
            with self._path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                facts = json_object.parse(str(file["facts"]))
                if facts.pop("key") != self.key:
                    return None
                course = Course(**facts)
                state, best = _arrays(file, "state"), _arrays(file, "best")
        except DAMAGED:  # pydantic's ValidationError is a ValueError
            return None
        model.optimizer.build(model.trainable_variables)  # otherwise it has no variables yet
        variables = _variables(model)
        fits = _alike(state, variables) and _alike(best, model.get_weights())
        if not fits or course.best_epoch > len(course.epochs):
            return None
        for variable, array in zip(variables, state, strict=True):
            variable.assign(array)
        return best, course

    def write(self, model: keras.Model, best: Arrays, course: Course) -> None:
        """Save the state after an epoch, unless the last write was less than `seconds_apart` ago.

        Args:
            model: The compiled model in training.
            best: Weights of the best epoch so far.
            course: The course of the training.
        """
        if time.monotonic() - self._written < self._apart:
            return
        self._forget_others()
        arrays: dict[str, Any] = {
            "facts": np.array(json.dumps({**vars(course), "key": self.key})),  # without a pickle
            **_numbered("state", [np.asarray(v) for v in _variables(model)]),
            **_numbered("best", best),
        }
        with writing(self._path) as beside, beside.open("wb") as file:
            np.savez(file, **arrays)
        self._written = time.monotonic()

    def _forget_others(self) -> None:
        """Remove checkpoints of other settings, since only the last training can be resumed."""
        stage = self._path.name.split("-")[0]
        for other in self._path.parent.glob(f"{stage}-*.npz"):
            if other != self._path:
                other.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the checkpoint after the training has finished."""
        self._path.unlink(missing_ok=True)


def _variables(model: keras.Model) -> list[Any]:
    """Return the weights, the states of random generators, and the state of the optimizer."""
    return [*model.variables, *model.optimizer.variables]


def _alike(arrays: Arrays, others: Sequence[Any]) -> bool:
    """Whether arrays have the shapes and types of others, which may be variables."""
    expected = map(np.asarray, others)
    return [(a.shape, a.dtype) for a in arrays] == [(b.shape, b.dtype) for b in expected]


def _numbered(name: str, arrays: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    # Of equal length, because `_arrays` sorts the names.
    return {f"{name}-{i:05d}": array for i, array in enumerate(arrays)}


def _arrays(file: Any, name: str) -> Arrays:
    return [file[key] for key in sorted(file.files) if key.startswith(f"{name}-")]
