"""What is known about a model when `rules.decide` decides about it, and which answers decide."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.formatting import plural
from imgpipe.components.image_evaluator.decision import FOLDS, DecidingAccuracy, UnlikeImages
from imgpipe.models import names
from imgpipe.models.head.certainty import interval
from imgpipe.models.settings.running import EvaluateSettings
from imgpipe.models.training.history import Folds

#: How far below the threshold the interval of an accuracy that reaches it may begin: 20 independent
#: images then bless one in six models of 0.85 at 0.9, and 100 one in ten; see docs/benchmarks.md,
#: "Intervals and refusals".
WIDEST: Final = 0.15


@dataclass(frozen=True)
class Evidence:
    """What is known about a model when `decide` decides about it.

    Attributes:
        settings: Requirements on the model.
        answers: Answers of the served signature to the images of validation and test, and those of
            the folds, where these decide.
        compared: Answers of the model and of the last version, among the classes that both know, to
            the images that neither was trained on; None if they are not compared.
        version: Number of that version.
        not_compared: Why they are not compared; "" if they are.
        folds: Result of the folds of ImageTrainer where they decide, otherwise None; see
            `cross_validation.summary`.
        unserved: Why the export cannot be served as it was trained; "" if it can.
        unlike: New images that are unlike the old ones of their class; see `new_images`.
        accepted: Whether a person accepts how the images differ from earlier ones.
    """

    settings: EvaluateSettings
    answers: AnswerTable
    compared: tuple[AnswerTable, AnswerTable] | None = None
    version: int = 0
    not_compared: str = ""
    folds: Folds | None = None
    unserved: str = ""
    unlike: Sequence[UnlikeImages] = ()
    accepted: bool = False

    @property
    def demands_nothing(self) -> bool:
        """Whether a person asks for any model, however inaccurate, as in a trial of a pipeline."""
        return self.settings.threshold == 0

    @functools.cached_property
    def validation(self) -> AnswerTable:
        """The answers to the validation images."""
        return self.answers.of_split(names.VALIDATION)

    @functools.cached_property
    def unjudged(self) -> str:
        """Why validation cannot judge, because train has families of its images; "" if it can.

        It can if right answers to all of its other images would be enough.
        """
        others = self.answers.deciding()
        seen = len(self.validation) - len(others)
        if self.folds is not None or self.demands_nothing or not seen:
            return ""
        best = interval(np.ones(len(others), np.bool_), others.families)[0]
        if best > least_beginning(others, self.settings.threshold):
            return ""
        number = others.independent()
        independent = plural(number, "family or single image", "families or single images")
        remain = (
            f"its other images, {independent}, are too few" if len(others) else "it has no others"
        )
        ways = "put images of other families, such as other people or scenes, into validation"
        if not self.settings.cross_validate:
            ways += ", or let folds decide with evaluate.cross_validate = -1"
        return (
            f"train has images of the families of {seen:,} of {len(self.validation):,} validation "
            f"images, and {remain}; {ways}"
        )

    @functools.cached_property
    def deciding(self) -> AnswerTable:
        """The answers that decide: those of the folds, or those to the validation split.

        There are none where validation cannot judge, so that no number is compared with a limit.
        """
        answers = self.answers.deciding()
        return answers.select(np.empty(0, np.int64)) if self.unjudged else answers

    @property
    def judged_by(self) -> str:
        """The images of the answers that decide, in words."""
        return "in validation" if self.folds is None else "in cross-validation"

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


def least_beginning(answers: AnswerTable, threshold: float) -> float:
    """Return above what the interval of an accuracy has to begin."""
    return max(threshold - WIDEST, accuracy_of_commonest(answers))


def accuracy_of_commonest(answers: AnswerTable) -> float:
    """Return the accuracy of always answering the commonest of several classes; 0 for one."""
    images = np.bincount(answers.labels)
    return float(images.max() / len(answers)) if np.count_nonzero(images) > 1 else 0.0
