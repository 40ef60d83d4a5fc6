"""Answers of a model to labelled images: one table with a row for each image.

Every figure of a model is a question to this table: accuracy, recall, precision, calibration, what
is taken for what, kinds of images, folds, and the comparison with another model. An image keeps the
family that it belongs to, so that no figure counts the frames of one film as independent images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage import records
from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Floats, Integers, Names
from imgpipe.models.features import folds
from imgpipe.models.features.examples import columns
from imgpipe.models.features.rows import ColumnTable
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.head.certainty import AccuracyFigures, accuracy_figures

#: Features that are copied to the prediction of an image, so that the report can say on which kinds
#: of images the model is weak without reading the images again.
DESCRIBED = (names.FORMAT, names.WIDTH, names.HEIGHT, names.BRIGHTNESS, names.SHARPNESS)
#: Splits whose images are predicted.
PREDICTED_SPLITS = (names.VALIDATION, names.TEST)
_STORED = (names.PATH, names.IMAGE_HASH, names.LABEL_INDEX, names.GROUP, names.NEAR_GROUP)
#: Columns from which a table is made, with the value of an image of which nothing is said.
COLUMNS: Mapping[str, Any] = {
    "paths": "",
    "hashes": b"",
    "splits": "",
    "labels": 0,
    "predicted": 0,
    "confidence": 0.0,
    "of_label": 0.0,
    "groups": b"",
    "near": 0,
    "seen_family": False,
    "formats": b"",
    "shorter_sides": 0,
    "brightness": 0.0,
    "sharpness": 0.0,
}

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


@dataclass(frozen=True)
class AnswerTable(ColumnTable):
    """Answers of a model to n labelled images, as arrays [n].

    Attributes:
        vocabulary: Class names in sorted order, C of them.
        paths: Path of each image in its source; "" where only the folds have answered.
        hashes: Its content hash.
        splits: Its split; train where only the folds have answered, "" in an evaluation.
        labels: Index of its label in the vocabulary.
        predicted: Index of the most probable class.
        confidence: Probability of the most probable class.
        of_label: Probability of the label.
        families: Name of the family of each image: images of one family are not independent of each
            other.
        seen_family: Whether train has images of the same family.
        formats: Format of the file; b"" where the image was not described.
        shorter_sides: Shorter side of the image in pixels; 0 if it is not known, as all that
            follows.
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
    formats: Names
    shorter_sides: Integers
    brightness: Floats
    sharpness: Floats

    @classmethod
    def of(
        cls,
        vocabulary: Sequence[str],
        parts: Iterable[Mapping[str, Array]],
        family_of: Mapping[bytes, bytes] | None = None,
    ) -> AnswerTable:
        """Return the table of some answers.

        Args:
            vocabulary: Class names in sorted order.
            parts: Columns of some images each, by the names of the attributes; the families follow
                from `groups`, those of the source, and `near`, the numbers of the groups of
                near-duplicates. What is missing is "" or 0.
            family_of: Families that are known already, by the content hash of the image. Those of
                other images are found by the rule that divides images into folds.
        """
        every_part = [{"labels": np.empty(0, np.int64)}, *parts]
        column = {
            name: np.concatenate(
                [part.get(name, np.full(len(part["labels"]), usual)) for part in every_part]
            )
            for name, usual in COLUMNS.items()
        }
        hashes = column["hashes"]
        largest = len(hashes) // folds.FOLDS
        by_folds, _ = folds.find_groups(hashes, column.pop("groups"), column.pop("near"), largest)
        families = [
            (family_of or {}).get(image, family)
            for image, family in zip(hashes.tolist(), by_folds.tolist(), strict=True)
        ]
        column["paths"] = column["paths"].astype(np.object_)
        return cls(vocabulary, families=np.array(families, np.bytes_), **column)

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
        stored = [part for split in PREDICTED_SPLITS if uri for part in _stored(uri, split)]
        if learned is None:
            return cls.of(vocabulary, stored)
        predicted = np.concatenate([[b""], *(part["hashes"] for part in stored)])
        others = learned.select(~np.isin(learned.hashes, predicted))
        of_folds = {
            "hashes": others.hashes,
            "splits": np.full(len(others), names.TRAIN),
            **answered(others.probabilities, others.labels),
        }
        table = cls.of(vocabulary, [*stored, of_folds], learned.family_of())
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

    @property
    def right(self) -> Flags:
        """Whether the label of each image was predicted, bool [n]."""
        return np.asarray(self.predicted == self.labels)

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


def answered(probabilities: Floats, labels: Integers) -> dict[str, Array]:
    """Return the columns of an `AnswerTable` that follow from probabilities, [n, C]."""
    rows = np.arange(len(labels))
    predicted = probabilities.argmax(axis=1)
    return {
        "labels": labels,
        "predicted": predicted,
        "confidence": probabilities[rows, predicted],
        "of_label": probabilities[rows, labels],
    }


def _stored(
    uri: str, split: str, feature: str = names.PROBABILITIES, shared: Flags | None = None
) -> Iterator[dict[str, Array]]:
    """Yield the stored answers to the images of a split that have a label, batch by batch.

    `feature` has the probabilities. `shared` are the classes among which is chosen, bool [C];
    images of other classes are left out.
    """
    wanted = (*_STORED, names.SEEN_FAMILY, *DESCRIBED, feature)
    batches = columns(records.shard_files(uri, split), *wanted)
    for batch in itertools.islice(batches, 1, None):  # the first one is empty
        has_label = batch[names.LABEL_INDEX] >= 0
        if shared is not None:
            has_label &= shared[batch[names.LABEL_INDEX]]
            batch[feature][:, ~shared] = -1
        kept = {name: column[has_label] for name, column in batch.items()}
        paths = [path.decode("utf-8", "surrogateescape") for path in kept[names.PATH]]
        yield answered(kept[feature], kept[names.LABEL_INDEX]) | {
            "paths": np.array(paths, np.object_),
            "hashes": kept[names.IMAGE_HASH],
            "splits": np.full(len(paths), split),
            "groups": kept[names.GROUP],
            "near": kept[names.NEAR_GROUP],
            "seen_family": kept[names.SEEN_FAMILY] > 0,
            "formats": kept[names.FORMAT],
            "shorter_sides": np.minimum(kept[names.WIDTH], kept[names.HEIGHT]),
            "brightness": kept[names.BRIGHTNESS],
            "sharpness": kept[names.SHARPNESS],
        }
