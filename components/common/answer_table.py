"""Answers of a model to labelled images: one table with a row for each image.

Every figure of a model is a question to this table: accuracy, recall, precision, calibration, what
is taken for what, kinds of images, folds, and the comparison with another model. An image keeps the
family that it belongs to, so that no figure counts the frames of one film as independent images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common import images as tables
from imgpipe.components.common.image_row import PlacedImage
from imgpipe.components.common.storage import records
from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Floats, Integers, Names
from imgpipe.models.features.rows import ColumnTable, columns
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.head.certainty import CHANCE, AccuracyFigures, accuracy_figures

if TYPE_CHECKING:
    import pandas as pd

#: Splits whose images are predicted.
PREDICTED_SPLITS = (names.VALIDATION, names.TEST)

#: (label, predicted, count), with classes as indices in the vocabulary.
Cell: TypeAlias = tuple[int, int, int]


class ClassMetrics(TypedDict):
    """Metrics of one class."""

    count: Annotated[int, "Number of images with this label."]
    correct: Annotated[int, "Images of these that are predicted correctly."]
    recall: Annotated[float | None, "Share of these images that are predicted correctly."]
    ci95: Annotated[list[float], "95 % interval of the recall."]
    precision: Annotated[float | None, "Share of the predictions of this class that are correct."]
    f1: Annotated[float, "Harmonic mean of recall and precision; 0 if one is missing."]


class AnsweredImage(PlacedImage):
    """An image, and the answer to it."""

    predicted: Annotated[str, "The predicted class."]
    probability: Annotated[float, "Probability of the predicted class."]


@dataclass(frozen=True)
class AnswerTable(ColumnTable):
    """Answers of a model to n labelled images, as arrays [n].

    Attributes:
        vocabulary: Class names in sorted order, C of them.
        hashes: Content hash of each image.
        paths: Its path in its source.
        splits: Its split.
        labels: Index of its label in the vocabulary.
        families: Name of its family: images of one family are not independent of each other.
        seen_family: Whether it is held out, and train has images of the same family.
        formats: Format of the file.
        widths: Width of the image in pixels.
        heights: Its height.
        brightness: Mean luminance, 0..1.
        sharpness: Lower is blurrier, 0..1.
        predicted: Index of the most probable class.
        confidence: Probability of the most probable class.
        of_label: Probability of the label.
    """

    vocabulary: Sequence[str]
    hashes: Names
    paths: Array
    splits: Array
    labels: Integers
    families: Names
    seen_family: Flags
    formats: Names
    widths: Integers
    heights: Integers
    brightness: Floats
    sharpness: Floats
    predicted: Integers
    confidence: Floats
    of_label: Floats

    @classmethod
    def answered(
        cls,
        vocabulary: Sequence[str],
        images: pd.DataFrame,
        answers: Mapping[str, Array],
    ) -> AnswerTable:
        """Return the table of the answers to some images.

        Args:
            vocabulary: Class names in sorted order.
            images: The rows of a table of the images; see `images.kept`.
            answers: What follows from the probabilities; see `most_probable`.
        """
        return cls(
            vocabulary,
            hashes=images["image_hash"].to_numpy().astype(np.bytes_),
            paths=images["path"].to_numpy(),
            splits=images["split"].to_numpy().astype(np.str_),
            labels=images["label_index"].to_numpy(),
            families=images["family"].to_numpy().astype(np.bytes_),
            seen_family=images["seen_family"].to_numpy(),
            formats=images["format"].to_numpy().astype(np.bytes_),
            widths=images["width"].to_numpy(),
            heights=images["height"].to_numpy(),
            brightness=images[names.BRIGHTNESS].to_numpy(np.float32),
            sharpness=images[names.SHARPNESS].to_numpy(np.float32),
            **answers,
        )

    @classmethod
    def read(
        cls,
        uri: str | None,
        vocabulary: Sequence[str],
        images: pd.DataFrame,
        learned: OutOfFold | None = None,
    ) -> AnswerTable:
        """Read the answers that ImageEvaluator has stored, and those of the folds.

        Args:
            uri: URI of the predictions; None without any.
            vocabulary: Class names in sorted order.
            images: The kept images.
            learned: Answers of the folds, where these decide; otherwise None.
        """
        hashes, answers = _stored(uri, PREDICTED_SPLITS)
        if learned is None:
            return cls.answered(vocabulary, tables.find(images, hashes), answers)
        others = learned.select(~np.isin(learned.hashes, hashes))
        of_folds = most_probable(others.probabilities, others.labels)
        answers = {name: np.concatenate([answers[name], of_folds[name]]) for name in answers}
        # The network of a fold has not seen the families of the images for which it answers.
        images = tables.find(images, np.concatenate([hashes, others.hashes]))
        table = cls.answered(vocabulary, images, answers)
        in_folds = np.isin(table.hashes, learned.hashes)
        return replace(table, seen_family=table.seen_family & ~in_folds)

    @classmethod
    def read_pairs(
        cls,
        uri: str,
        vocabulary: Sequence[str],
        images: pd.DataFrame,
        shared: Flags,
    ) -> tuple[AnswerTable, AnswerTable]:
        """Read the answers of two models to the validation images, among classes that both know.

        Args:
            uri: URI of the predictions.
            vocabulary: Class names in sorted order.
            images: The kept images.
            shared: Whether the baseline knows each class, too, bool [C].

        Returns:
            The answers of the model, and those of the baseline, with the same rows.
        """

        def of(feature: str) -> AnswerTable:
            hashes, answers = _stored(uri, (names.VALIDATION,), feature, shared)
            return cls.answered(vocabulary, tables.find(images, hashes), answers)

        return of(names.PROBABILITIES), of(names.BASELINE_PROBABILITIES)

    @property
    def right(self) -> Flags:
        """Whether the label of each image was predicted, bool [n]."""
        return np.asarray(self.predicted == self.labels)

    def of_split(self, split: str) -> AnswerTable:
        """Return the rows of a split."""
        return self.select(self.splits == split)

    def deciding(self) -> AnswerTable:
        """Return the rows that decide: those of families that the model has not learned from.

        Test decides nothing.
        """
        return self.select(self.splits != names.TEST).unseen()

    def unseen(self) -> AnswerTable:
        """Return the rows of families of which train has no image."""
        return self.select(~np.isin(self.families, self.families[self.seen_family]))

    def by_class(self) -> list[AnswerTable]:
        """Return the rows with each label, in the order of the vocabulary, [C]."""
        by_label = np.argsort(self.labels, kind="stable")
        ends = np.cumsum(np.bincount(self.labels, minlength=len(self.vocabulary)))[:-1]
        return [self.select(rows) for rows in np.split(by_label, ends)]

    def independent(self) -> int:
        """Return the number of families."""
        return len(np.unique(self.families))

    def surest(self) -> list[int]:
        """Return the numbers of the rows, the most confident answers first."""
        return sorted(range(len(self)), key=lambda row: (-self.confidence[row], self.paths[row]))

    def described(self, rows: Iterable[int]) -> list[AnsweredImage]:
        """Return some rows, by their numbers, as they are written as JSON."""
        chosen = self.select(np.fromiter(rows, np.int64))
        return [
            {
                "path": chosen.paths[row],
                "image_hash": chosen.hashes[row].decode(),
                "label": self.vocabulary[chosen.labels[row]],
                "split": str(chosen.splits[row]),
                "predicted": self.vocabulary[chosen.predicted[row]],
                "probability": float(chosen.confidence[row]),
            }
            for row in range(len(chosen))
        ]

    def figures(self, chance: float = CHANCE) -> AccuracyFigures:
        """Return the accuracy with its interval, as it is written as JSON."""
        return accuracy_figures(self.right, self.families, chance)

    def per_class(self) -> dict[str, ClassMetrics]:
        """Return the metrics of each class."""
        predictions = np.bincount(self.predicted, minlength=len(self.vocabulary)).tolist()
        rows = zip(self.vocabulary, self.by_class(), predictions, strict=True)
        return {name: _class_metrics(of_class, answers) for name, of_class, answers in rows}

    def balanced(self) -> float | None:
        """Return the mean recall of the classes that have images; None without any."""
        recalls = [of_class["recall"] for of_class in self.per_class().values()]
        known = [recall for recall in recalls if recall is not None]
        return sum(known) / len(known) if known else None

    def confusion(self) -> list[Cell]:
        """Return the cells of the confusion matrix that are not 0, in order."""
        pairs = np.stack([self.labels, self.predicted])
        cells, counts = np.unique(pairs, axis=1, return_counts=True)
        return [
            (label, predicted, count)
            for (label, predicted), count in zip(cells.T.tolist(), counts.tolist(), strict=True)
        ]


def _class_metrics(of_class: AnswerTable, predictions: int) -> ClassMetrics:
    """Return the metrics of a class, which was predicted for so many images."""
    figures = of_class.figures()
    recall = figures["accuracy"]
    precision = figures["correct"] / predictions if predictions else None
    both = (recall or 0) + (precision or 0)
    return {
        "count": figures["count"],
        "correct": figures["correct"],
        "recall": recall,
        "ci95": figures["ci95"],
        "precision": precision,
        "f1": 2 * (recall or 0) * (precision or 0) / both if both else 0.0,
    }


def most_probable(probabilities: Floats, labels: Integers) -> dict[str, Array]:
    """Return the columns of an `AnswerTable` that follow from probabilities, [n, C]."""
    rows = np.arange(len(labels))
    predicted = probabilities.argmax(axis=1)
    return {
        "predicted": predicted,
        "confidence": probabilities[rows, predicted].astype(np.float64),
        "of_label": probabilities[rows, labels].astype(np.float64),
    }


def _stored(
    uri: str | None,
    splits: Sequence[str],
    feature: str = names.PROBABILITIES,
    shared: Flags | None = None,
) -> tuple[Names, dict[str, Array]]:
    """Read the stored answers to the images of some splits that have a label.

    `feature` has the probabilities. `shared` are the classes among which is chosen, bool [C];
    images of other classes are left out.

    Returns:
        The content hash of each image, and the columns that `most_probable` returns.
    """
    files = [file for split in splits if uri for file in records.shard_files(uri, split)]
    batches = columns(files, names.IMAGE_HASH, names.LABEL_INDEX, feature)
    hashes = [np.empty(0, np.bytes_)]
    answers = [most_probable(np.empty((0, 1)), np.empty(0, np.int64))]
    for batch in itertools.islice(batches, 1, None):  # the first one is empty
        has_label = batch[names.LABEL_INDEX] >= 0
        if shared is not None:
            has_label &= shared[batch[names.LABEL_INDEX]]
            batch[feature][:, ~shared] = -1
        labels = batch[names.LABEL_INDEX][has_label]
        hashes.append(batch[names.IMAGE_HASH][has_label])
        answers.append(most_probable(batch[feature][has_label], labels))
    joined = {name: np.concatenate([part[name] for part in answers]) for name in answers[0]}
    return np.concatenate(hashes), joined
