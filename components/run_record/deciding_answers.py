"""The answers that decide whether a model is blessed: counted by class, and those that are shown.

They are those of the folds, where folds decide, and otherwise those for the validation split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np

from imgpipe.components.common.answer_table import AnswerTable, Cell
from imgpipe.components.common.named_images import NamedImage
from imgpipe.components.run_record.metrics import Mistake, SplitMetrics, metrics, mistakes

#: Classes of the matrix. Of more, those that are most often taken for each other are chosen.
MATRIX = 12
_IMAGES_OF_A_CELL = 4
_SAMPLE = 400  # images of the map, so that it takes two seconds

#: Whose answers they are: those of the folds, those for the validation split, or those for the
#: images of an evaluation.
AnsweredBy = Literal["folds", "validation", "evaluation"]


class CellImage(NamedImage):
    """An image in a cell of the matrix."""

    label: Annotated[int, "Index of its label in the vocabulary."]
    predicted: Annotated[int, "Index of the predicted class."]


class DecidingAnswers(SplitMetrics):
    """The answers that decide, with their metrics."""

    judged_by: Annotated[AnsweredBy, "Whose answers they are."]
    threshold: Annotated[float | None, "Accuracy that is asked for; null if none is."]
    confusion: Annotated[list[Cell], "Cells of the confusion matrix that are not 0."]
    matrix: Annotated[list[int], "Indices of the classes of the matrix, in ascending order."]
    images: Annotated[list[CellImage], "The first images of each of its cells, the surest first."]
    mistakes: Annotated[list[Mistake], "The most confident mistakes."]


def summarise(
    judged_by: AnsweredBy, threshold: float | None, table: AnswerTable
) -> DecidingAnswers:
    """Return the answers that decide, as they are written as JSON.

    Args:
        judged_by: Whose answers they are.
        threshold: Accuracy that is asked for; None if none is.
        table: The answers.
    """
    confusion = table.confusion()
    matrix = most_confused(confusion, len(table.vocabulary))
    return {
        **metrics(table),
        "judged_by": judged_by,
        "threshold": threshold,
        "confusion": confusion,
        "matrix": matrix,
        "images": _cell_images(table, matrix),
        "mistakes": mistakes(table),
    }


def sample(table: AnswerTable) -> AnswerTable:
    """Return the rows of the map.

    A content hash is as good as a random number, and the same in every run.
    """
    return table.select(np.argsort(table.hashes)[:_SAMPLE])


def _cell_images(table: AnswerTable, matrix: Sequence[int]) -> list[CellImage]:
    """Return the surest images of the cells of these classes."""
    shown = table.select(np.isin(table.labels, matrix) & np.isin(table.predicted, matrix))
    images: dict[tuple[int, int], list[CellImage]] = {}
    for row in shown.surest():
        label = int(shown.labels[row])
        predicted = int(shown.predicted[row])
        of_cell = images.setdefault((label, predicted), [])
        if len(of_cell) < _IMAGES_OF_A_CELL:
            of_cell.append(
                {
                    "path": shown.paths[row],
                    "image_hash": shown.hashes[row].decode(),
                    "label": label,
                    "predicted": predicted,
                }
            )
    return [image for _, of_cell in sorted(images.items()) for image in of_cell]


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
