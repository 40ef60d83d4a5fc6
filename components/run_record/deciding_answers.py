"""The answers that decide whether a model is blessed: counted by class, and those that are shown.

They are those of the folds, where folds decide, and otherwise those for the validation split.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

from typing_extensions import TypedDict

from imgpipe.components.common.counts import Cell, Counts
from imgpipe.components.common.named_images import NamedImage
from imgpipe.components.common.prediction import StoredPrediction
from imgpipe.components.common.shares import AccuracyFigures
from imgpipe.components.run_record.metrics import Mistake, Table
from imgpipe.models.head.out_of_fold import OutOfFold

#: Classes of the matrix. Of more, those that are most often taken for each other are chosen.
MATRIX = 12
_IMAGES_OF_A_CELL = 4
_SAMPLE = 400  # images of the map, so that it takes two seconds

#: Whose answers they are: those of the folds, those for the validation split, or those for the
#: images of an evaluation.
AnsweredBy = Literal["folds", "validation", "evaluation"]


class ClassAnswers(AccuracyFigures):
    """The answers for the images of one class."""

    name: Annotated[str, "The class."]


class CellImage(NamedImage):
    """An image in a cell of the matrix."""

    label: Annotated[int, "Index of its label in the vocabulary."]
    predicted: Annotated[int, "Index of the predicted class."]


class DecidingAnswers(TypedDict):
    """The answers that decide."""

    judged_by: Annotated[AnsweredBy, "Whose answers they are."]
    threshold: Annotated[float | None, "Accuracy that is asked for; null if none is."]
    every: Annotated[
        AccuracyFigures,
        "All classes together, as they decided about the model.",
    ]
    classes: Annotated[list[ClassAnswers], "Every class, in the order of the vocabulary."]
    confusion: Annotated[list[Cell], "Cells of the confusion matrix that are not 0."]
    matrix: Annotated[list[int], "Indices of the classes of the matrix, in ascending order."]
    images: Annotated[list[CellImage], "The first images of each of its cells, the surest first."]
    mistakes: Annotated[list[Mistake], "The most confident mistakes."]


class SampledAnswer(NamedTuple):
    """Whether one image of the sample for the map was answered correctly."""

    image_hash: str
    right: bool


class ShownAnswers:
    """What the pictures need from answers that are read once; memory does not grow with them."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], list[tuple[float, str, str]]] = {}
        self._sample: list[tuple[int, bool, str]] = []

    def counted(self, rows: Iterable[StoredPrediction]) -> Iterator[StoredPrediction]:
        """Pass rows through, and remember the surest of each cell and a sample of all."""
        for row in rows:
            cell = self._cells.setdefault((row.label_index, row.predicted), [])
            heapq.heappush(cell, (row.confidence, row.path, row.image_hash))
            if len(cell) > _IMAGES_OF_A_CELL:
                heapq.heappop(cell)
            # A content hash is as good as a random number, and the same in every run.
            number = int.from_bytes(row.image_hash.encode()[:16])
            heapq.heappush(self._sample, (-number, row.correct, row.image_hash))
            if len(self._sample) > _SAMPLE:
                heapq.heappop(self._sample)
            yield row

    def images(self, matrix: Sequence[int]) -> list[CellImage]:
        """Return the surest images of the cells of these classes."""
        return [
            {"path": path, "image_hash": image_hash, "label": cell[0], "predicted": cell[1]}
            for cell, images in sorted(self._cells.items())
            if set(cell) <= set(matrix)
            for _, path, image_hash in sorted(images, reverse=True)
        ]

    def sample(self) -> list[SampledAnswer]:
        """Return the sample of the map, in an order that is always the same."""
        return [SampledAnswer(image_hash, right) for _, right, image_hash in sorted(self._sample)]


def fold_predictions(
    answers: OutOfFold, paths: dict[bytes, tuple[str, str]]
) -> Iterator[StoredPrediction]:
    """Return the answers of the folds as predictions.

    Args:
        answers: The answers of the folds.
        paths: Split and path of their images by content hash.
    """
    best = answers.probabilities.argmax(axis=1)
    for place, digest in enumerate(answers.hashes.tolist()):
        label = int(answers.labels[place])
        probabilities = answers.probabilities[place]
        path = paths[digest][1] if digest in paths else ""
        yield StoredPrediction(
            path,
            digest.decode(),
            label,
            int(best[place]),
            float(probabilities[best[place]]),
            float(probabilities[label]),
        )


def summarise(
    judged_by: AnsweredBy,
    threshold: float | None,
    vocabulary: Sequence[str],
    table: Table,
    shown: ShownAnswers,
) -> DecidingAnswers:
    """Return the answers that decide, as they are written as JSON.

    Args:
        judged_by: Whose answers they are.
        threshold: Accuracy that is asked for; None if none is.
        vocabulary: Class names in sorted order.
        table: All answers, which have passed through `shown`.
        shown: What the pictures need of them.
    """
    answers = of_cells(
        judged_by, threshold, vocabulary, table.confusion, table.mistakes(), table.counts
    )
    return {**answers, "images": shown.images(answers["matrix"])}


def of_cells(
    judged_by: AnsweredBy,
    threshold: float | None,
    vocabulary: Sequence[str],
    confusion: Sequence[Cell],
    mistakes: list[Mistake],
    counts: Counts | None = None,
) -> DecidingAnswers:
    """Return the answers of which only the confusion matrix and some mistakes are known.

    Args:
        judged_by: Whose answers they are.
        threshold: Accuracy that is asked for; None if none is.
        vocabulary: Class names in sorted order.
        confusion: Cells of the confusion matrix that are not 0.
        mistakes: The most confident mistakes, which are the images of its cells.
        counts: The answers by class; None if all images are independent.
    """
    counts = counts or Counts.of_cells(confusion, len(vocabulary))
    matrix = most_confused(confusion, len(vocabulary))
    index = {name: label for label, name in enumerate(vocabulary)}
    images: list[CellImage] = [
        {
            "path": mistake["path"],
            "image_hash": mistake["image_hash"],
            "label": index[mistake["label"]],
            "predicted": index[mistake["predicted"]],
        }
        for mistake in mistakes
    ]
    return {
        "judged_by": judged_by,
        "threshold": threshold,
        "every": counts.figures(),
        "classes": [{"name": name, **counts.figures(label)} for name, label in index.items()],
        "confusion": list(confusion),
        "matrix": matrix,
        "images": images,
        "mistakes": mistakes,
    }


def most_confused(confusion: Sequence[Cell], classes: int) -> list[int]:
    """Return the classes of the matrix: all of a few, or those of the most frequent mistakes."""
    if classes <= MATRIX:
        return list(range(classes))
    wrong: Counter[tuple[int, int]] = Counter()
    for label, predicted, count in confusion:
        if label != predicted:
            wrong[min(label, predicted), max(label, predicted)] += count
    chosen: set[int] = set()
    for pair, _ in wrong.most_common():
        if len(chosen | set(pair)) <= MATRIX:
            chosen |= set(pair)
    return sorted(chosen)
