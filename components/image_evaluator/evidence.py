"""What is known about a model when it is decided whether it is blessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imgpipe.components.common import shares
from imgpipe.components.common.shares import AccuracyFigures
from imgpipe.components.image_evaluator.decision import FOLDS, DecidingAccuracy, UnlikeImages
from imgpipe.components.image_evaluator.settings import EvaluateSettings
from imgpipe.models import feature_names as names
from imgpipe.models.training.cross_validation import Folds


@dataclass(frozen=True)
class Counts:
    """Answers to held-out images by class, each a list of C numbers.

    Attributes:
        labels: Number of images of each class.
        predicted: Number of images that each class was predicted for.
        right: Number of images of each class for which it was predicted.
        families: Number of independent images of each class, where the images of a family count
            once; empty if all images are independent.
        independent: Number of independent images of all classes; 0 if all are.
    """

    labels: Sequence[int]
    predicted: Sequence[int]
    right: Sequence[int]
    families: Sequence[int] = ()
    independent: int = 0

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.labels)

    @property
    def correct(self) -> int:
        """Number of images whose label was predicted."""
        return sum(self.right)

    @property
    def accuracy(self) -> float | None:
        """Share of correct answers; None without an image."""
        return self.correct / self.images if self.images else None

    def interval(self, label: int | None = None) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy, or of the recall of a class.

        It is that of as many images as there are families, because the images of a family are
        mostly right or wrong together.
        """
        right = self.correct if label is None else self.right[label]
        images = self.images if label is None else self.labels[label]
        low, high = shares.accuracy_figures(right, images, self.independent_of(label))["ci95"]
        return low, high

    def independent_of(self, label: int | None = None) -> int:
        """Return the number of independent images, of all classes or of one."""
        if label is None:
            return self.independent or self.images
        return self.families[label] if self.families else self.labels[label]

    def figures(self) -> AccuracyFigures:
        """Return the number of images, and how many are right, as they are written as JSON."""
        return shares.accuracy_figures(self.correct, self.images, self.independent_of())

    @property
    def balanced(self) -> float | None:
        """Balanced accuracy: the mean recall of the classes that have images; None without any."""
        recalls = [right / n for right, n in zip(self.right, self.labels, strict=True) if n]
        return sum(recalls) / len(recalls) if recalls else None


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
        unlike: New images that are unlike the old ones of their class, see `new_images.find`.
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
        return Counts(
            self.folds["labels"],
            self.folds["predicted"],
            self.folds["right"],
            self.folds["families"],
            self.folds["groups"],
        )

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
