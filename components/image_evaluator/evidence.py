"""What is known about a model when it is decided whether it is blessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipe.components.common.counts import Counts
from imgpipe.components.image_evaluator.decision import FOLDS, DecidingAccuracy, UnlikeImages
from imgpipe.components.image_evaluator.settings import EvaluateSettings
from imgpipe.models.names import feature_names as names
from imgpipe.models.training.cross_validation import Folds


@dataclass(frozen=True)
class Pairs:
    """Answers of the model and of the last version to the images that neither was trained on.

    Both choose among the classes that both know. The lists have a number for each class.

    Attributes:
        images: Number of images.
        right: Number of images for which the model is right.
        before: Number of images for which the last version is right.
        gained: Number of images for which only the model is right.
    """

    images: Sequence[int]
    right: Sequence[int]
    before: Sequence[int]
    gained: Sequence[int]

    def totals(self, label: int | None = None) -> tuple[int, int, int, int]:
        """Return images, right, before and gained of a class, or of all classes."""
        columns = (self.images, self.right, self.before, self.gained)
        images, right, before, gained = (
            sum(column) if label is None else column[label] for column in columns
        )
        return images, right, before, gained


class PairTally:
    """Counts the answers of the model and of the last version to the same images, by class.

    Args:
        shared: Which of the model's classes the last version knows, too, bool [C].
    """

    def __init__(self, shared: npt.NDArray[np.bool_]) -> None:
        self._shared = shared
        self._counts = np.zeros((4, len(shared)), np.int64)  # the rows are the fields of `Pairs`

    def add(self, label: int, now: Sequence[float], before: Sequence[float]) -> None:
        """Count an image, if both know its class.

        Args:
            label: Index of its class.
            now: Probabilities that the model gives the classes, [C].
            before: Probabilities that the last version gives them, [C].
        """
        if not self._shared[label]:
            return
        right = self._is_right(label, now)
        was_right = self._is_right(label, before)
        self._counts[:, label] += (1, right, was_right, right and not was_right)

    def _is_right(self, label: int, probabilities: Sequence[float]) -> bool:
        """Return whether a class is the most probable one of those that both know."""
        return bool(np.where(self._shared, probabilities, -1).argmax() == label)

    def pairs(self) -> Pairs:
        """Return the counts."""
        return Pairs(*self._counts.tolist())


@dataclass(frozen=True)
class Evidence:
    """What is known about a model when `decide` decides about it.

    Attributes:
        vocabulary: Class names in the order of the counts.
        settings: Requirements on the model.
        validation: Answers of the served signature to the validation images.
        pairs: Comparison with the last version; None if they are not compared.
        version: Number of that version.
        not_compared: Why they are not compared; "" if they are.
        folds: Result of the folds of ImageTrainer where they decide, otherwise None; see
            `cross_validation.summary`.
        unserved: Why the export cannot be served as it was trained; "" if it can.
        unlike: New images that are unlike the old ones of their class; see `new_images`.
        unseen: Answers to the validation images of families of which train has no image; None if
            there is no image of a family that train has, too.
        accepted: Whether a person accepts how the images differ from earlier ones.
    """

    vocabulary: Sequence[str]
    settings: EvaluateSettings
    validation: Counts
    pairs: Pairs | None = None
    version: int = 0
    not_compared: str = ""
    folds: Folds | None = None
    unserved: str = ""
    unlike: Sequence[UnlikeImages] = ()
    unseen: Counts | None = None
    accepted: bool = False

    @property
    def demands_nothing(self) -> bool:
        """Whether a person asks for any model, however inaccurate, as in a trial of a pipeline."""
        return self.settings.threshold == 0

    @property
    def deciding(self) -> Counts:
        """The answers that decide: those of the folds, or those of the validation split."""
        if self.folds is None:
            return self.validation
        return Counts.of_folds(self.folds)

    @property
    def decided_by(self) -> DecidingAccuracy:
        """The accuracy that is compared with the threshold."""
        folds = self.folds
        return {
            "kind": names.VALIDATION if folds is None else FOLDS,
            **self.deciding.figures(),
            "folds": None if folds is None else folds["folds"],
            "std": None if folds is None else folds["std"],
        }
