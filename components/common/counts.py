"""Answers to labelled images, counted once by class.

Accuracy, recall and precision, with their intervals, are read from these counts: by the rules of
the blessing, the verdict, the pages, the model card and the summaries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.shares import AccuracyFigures, accuracy_figures

if TYPE_CHECKING:
    from imgpipe.components.common.prediction import StoredPrediction
    from imgpipe.models.training.cross_validation import FoldFigures

#: (label, predicted, count), with classes as indices in the vocabulary.
Cell: TypeAlias = tuple[int, int, int]


class ClassMetrics(TypedDict):
    """Metrics of one class."""

    count: Annotated[int, "Number of images with this label."]
    recall: Annotated[float | None, "Share of these images that are predicted correctly."]
    precision: Annotated[float | None, "Share of the predictions of this class that are correct."]
    f1: Annotated[float, "Harmonic mean of recall and precision; 0 if one is missing."]


@dataclass(frozen=True)
class Counts:
    """Answers to labelled images by class, each a list of C numbers.

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

    @classmethod
    def of_folds(cls, folds: FoldFigures) -> Counts:
        """Return the counts of a cross-validation, which ImageTrainer has counted."""
        return cls(
            folds["labels"], folds["predicted"], folds["right"], folds["families"], folds["groups"]
        )

    @classmethod
    def of_cells(
        cls,
        cells: Iterable[Cell],
        classes: int,
        families: Sequence[int] = (),
        independent: int = 0,
    ) -> Counts:
        """Return the counts of a confusion matrix, given by its cells that are not 0."""
        labels = [0] * classes
        guesses = [0] * classes
        right = [0] * classes
        for label, predicted, count in cells:
            labels[label] += count
            guesses[predicted] += count
            if label == predicted:
                right[label] += count
        return cls(labels, guesses, right, families, independent)

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

    @property
    def balanced(self) -> float | None:
        """Balanced accuracy: the mean recall of the classes that have images; None without any."""
        recalls = [right / n for right, n in zip(self.right, self.labels, strict=True) if n]
        return sum(recalls) / len(recalls) if recalls else None

    def independent_of(self, label: int | None = None) -> int:
        """Return the number of independent images, of all classes or of one."""
        if label is None:
            return self.independent or self.images
        return self.families[label] if self.families else self.labels[label]

    def figures(self, label: int | None = None) -> AccuracyFigures:
        """Return the accuracy, or the recall of a class, as it is written as JSON.

        The interval is that of as many images as there are families, because the images of a
        family are mostly right or wrong together.
        """
        right = self.correct if label is None else self.right[label]
        images = self.images if label is None else self.labels[label]
        return accuracy_figures(right, images, self.independent_of(label))

    def metrics(self, label: int) -> ClassMetrics:
        """Return recall, precision and F1 of a class."""
        right = self.right[label]
        images = self.labels[label]
        answers = self.predicted[label]
        recall = right / images if images else None
        precision = right / answers if answers else None
        both = (recall or 0) + (precision or 0)
        return {
            "count": images,
            "recall": recall,
            "precision": precision,
            "f1": 2 * (recall or 0) * (precision or 0) / both if both else 0.0,
        }


class AnswerTally:
    """Counts answers that are read once.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        self._cells: Counter[tuple[int, int]] = Counter()
        self._groups: list[set[str]] = [set() for _ in range(classes)]
        self._alone: Counter[int] = Counter()

    def add(self, answer: StoredPrediction) -> None:
        """Count the answer to an image that has a label."""
        label = answer.label_index
        self._cells[label, answer.predicted] += 1
        if answer.group:
            self._groups[label].add(answer.group)
        else:
            self._alone[label] += 1

    def confusion(self) -> list[Cell]:
        """Return the cells of the confusion matrix that are not 0, in order."""
        return [(*cell, count) for cell, count in sorted(self._cells.items())]

    def counts(self) -> Counts:
        """Return the counts by class."""
        families = [len(group) + self._alone[label] for label, group in enumerate(self._groups)]
        independent = len(set().union(*self._groups)) + self._alone.total()
        return Counts.of_cells(self.confusion(), len(families), families, independent)
