"""Answers of a model to labelled images: one table with a row for each image.

Every figure of a model is a question to this table: accuracy, recall, precision, calibration, what
is taken for what, kinds of images, folds, and the comparison with another model. An image keeps the
family that it belongs to, so that no figure counts the frames of one film as independent images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage import records
from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Floats, Integers, Names
from imgpipe.models.features import folds
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.head.certainty import AccuracyFigures, accuracy_figures

#: Features that are copied to the prediction of an image, so that the report can say on which kinds
#: of images the model is weak without reading the images again.
DESCRIBED = (names.FORMAT, names.WIDTH, names.HEIGHT, names.BRIGHTNESS, names.SHARPNESS)
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


class AnswerRow(NamedTuple):
    """The answer to one image, before it is known which images are of one family.

    Attributes:
        path: Path of the image in its source.
        image_hash: Content hash of the image.
        split: Its split; "" for an image of an evaluation.
        label: Index of its label in the vocabulary.
        predicted: Index of the most probable class.
        confidence: Probability of the most probable class.
        of_label: Probability of the label.
        group: Group of the image that the source gives; b"" for none.
        near: Number of its group of near-duplicates; 0 for none.
        seen_family: Whether train has images of the same family.
        described: The features `DESCRIBED` in their order, each None if it is not known; () if the
            image was not described.
    """

    path: str
    image_hash: bytes
    split: str
    label: int
    predicted: int
    confidence: float
    of_label: float
    group: bytes = b""
    near: int = 0
    seen_family: bool = False
    described: tuple[Any, ...] = ()


@dataclass(frozen=True)
class AnswerTable:
    """Answers of a model to n labelled images: the columns of `AnswerRow` as arrays [n].

    Attributes:
        vocabulary: Class names in sorted order, C of them.
        splits: Split of each image; train where only the folds have answered.
        families: Name of the family of each image, bytes [n]: images of one family are not
            independent of each other.
    """

    vocabulary: Sequence[str]
    paths: Array
    hashes: Names
    splits: Array
    labels: Integers
    predicted: Integers
    confidence: Floats
    of_label: Floats
    families: Names
    seen_family: Flags
    described: Array

    @classmethod
    def of(
        cls,
        vocabulary: Sequence[str],
        answers: Iterable[AnswerRow],
        family_of: Mapping[bytes, bytes] | None = None,
    ) -> AnswerTable:
        """Return the table of some answers, which are read once.

        Args:
            vocabulary: Class names in sorted order.
            answers: The answers.
            family_of: Families that are known already, by the content hash of the image. Those of
                other images are found by the rule that divides images into folds.
        """
        columns: list[Any] = [*zip(*answers, strict=True)] or [()] * len(AnswerRow._fields)
        column = dict(zip(AnswerRow._fields, columns, strict=True))
        hashes = np.array(column["image_hash"], np.bytes_)
        groups = np.array(column["group"], np.bytes_)
        near = np.array(column["near"], np.int64)
        found, _ = folds.find_groups(hashes, groups, near, len(hashes) // folds.FOLDS)
        known = family_of or {}
        families = [
            known.get(image, family)
            for image, family in zip(hashes.tolist(), found.tolist(), strict=True)
        ]
        return cls(
            vocabulary,
            _objects(column["path"]),
            hashes,
            np.array(column["split"], np.str_),
            np.array(column["label"], np.int64),
            np.array(column["predicted"], np.int64),
            np.array(column["confidence"], np.float64),
            np.array(column["of_label"], np.float64),
            np.array(families, np.bytes_),
            np.array(column["seen_family"], np.bool_),
            _objects(column["described"]),
        )

    @classmethod
    def read(
        cls, uri: str | None, vocabulary: Sequence[str], learned: OutOfFold | None = None
    ) -> AnswerTable:
        """Read the answers that Predictor has stored, and those of the folds.

        Args:
            uri: URI of the predictions; None without any.
            vocabulary: Class names in sorted order.
            learned: Answers of the folds, where these decide; otherwise None.
        """
        answers: list[AnswerRow] = []
        if uri is not None:
            answers = [row for split in PREDICTED_SPLITS for row in _stored(uri, split)]
        if learned is None:
            return cls.of(vocabulary, answers)
        family_of = learned.family_of()
        predicted = {answer.image_hash for answer in answers}
        answers += [row for row in _of_folds(learned) if row.image_hash not in predicted]
        table = cls.of(vocabulary, answers, family_of)
        # The network of a fold has not seen the families of the images for which it answers.
        in_folds = np.isin(table.hashes, learned.hashes)
        return replace(table, seen_family=table.seen_family & ~in_folds)

    @classmethod
    def read_pairs(
        cls, uri: str, vocabulary: Sequence[str], shared: Flags, learned: OutOfFold | None = None
    ) -> tuple[AnswerTable, AnswerTable]:
        """Read the answers of two models to the validation images, among classes that both know.

        Args:
            uri: URI of the predictions.
            vocabulary: Class names in sorted order.
            shared: Whether the baseline knows each class, too, bool [C].
            learned: Answers of the folds, where these decide; their families are used here.

        Returns:
            The answers of the model, and those of the baseline, with the same rows.
        """
        family_of = None if learned is None else learned.family_of()
        now, before = (
            cls.of(vocabulary, _stored(uri, names.VALIDATION, feature, shared), family_of)
            for feature in (names.PROBABILITIES, names.BASELINE_PROBABILITIES)
        )
        return now, before

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> Flags:
        """Whether the label of each image was predicted, bool [n]."""
        return np.asarray(self.predicted == self.labels)

    def select(self, rows: Flags | Integers) -> AnswerTable:
        """Return some rows, by flags, bool [n], or by their numbers, in their order."""
        arrays = [field.name for field in fields(self) if field.name != "vocabulary"]
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays})

    def of_split(self, split: str) -> AnswerTable:
        """Return the rows of a split."""
        return self.select(self.splits == split)

    def deciding(self) -> AnswerTable:
        """Return the rows that decide: all but those of test, which decides nothing."""
        return self.select(self.splits != names.TEST)

    def unseen(self) -> AnswerTable | None:
        """Return the rows of families of which train has no image; None if these are all rows."""
        return self.select(~self.seen_family) if self.seen_family.any() else None

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

    def figures(self) -> AccuracyFigures:
        """Return the accuracy with its interval, as it is written as JSON."""
        return accuracy_figures(self.right, self.families)

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


def _objects(values: Sequence[Any]) -> Array:
    """Return an array of objects, [n], also where these are sequences."""
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def _of_folds(learned: OutOfFold) -> Iterable[AnswerRow]:
    """Yield the answers of the folds, without the paths, which they do not have."""
    best = learned.probabilities.argmax(axis=1)
    for place, digest in enumerate(learned.hashes.tolist()):
        label = int(learned.labels[place])
        predicted = int(best[place])
        probabilities = learned.probabilities[place]
        confidence = float(probabilities[predicted])
        yield AnswerRow(
            "", digest, names.TRAIN, label, predicted, confidence, float(probabilities[label])
        )


def _stored(
    uri: str, split: str, feature: str = names.PROBABILITIES, shared: Flags | None = None
) -> Iterable[AnswerRow]:
    """Yield the stored answers to the images of a split that have a label.

    Args:
        uri: URI of the predictions.
        split: Name of the split.
        feature: Name of the feature with the probabilities.
        shared: The classes among which is chosen, bool [C]; None for all. Images of other classes
            are left out.
    """
    for example in records.iterate(uri, split):
        label = records.integer(example, names.LABEL_INDEX, -1)
        if label < 0 or (shared is not None and not shared[label]):
            continue
        probabilities = np.array(records.floats(example, feature))
        if shared is not None:
            probabilities[~shared] = -1
        best = int(probabilities.argmax())
        yield AnswerRow(
            records.text(example, names.PATH),
            records.raw(example, names.IMAGE_HASH),
            split,
            label,
            best,
            float(probabilities[best]),
            float(probabilities[label]),
            records.raw(example, names.GROUP),
            records.integer(example, names.NEAR_GROUP),
            bool(records.integer(example, names.SEEN_FAMILY)),
            tuple(records.first(example, name) for name in DESCRIBED),
        )
