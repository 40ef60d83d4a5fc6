"""Made-up tables of answers."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from imgpipe.components.common.answer_table import AnswerTable, Cell
from imgpipe.models import names
from imgpipe.models.head.certainty import AccuracyFigures, accuracy_figures


class Answer(NamedTuple):
    """An image, in the order of the columns of a table, and the answer to it."""

    image_hash: bytes
    path: str
    split: str
    label: int
    family: bytes = b""
    seen_family: bool = False
    format: bytes = b""
    width: int = 0
    height: int = 0
    brightness: float = 0.0
    sharpness: float = 0.0
    predicted: int = 0
    confidence: float = 0.0
    of_label: float = 0.0


def answer(
    number: int,
    label: int,
    predicted: int,
    sure: float = 0.9,
    of_label: float | None = None,
    **values: Any,
) -> Answer:
    """Return the answer to the image `{number}.jpg` of validation, with these other values."""
    row = Answer(
        f"{number:064x}".encode(),
        f"{number}.jpg",
        names.VALIDATION,
        label,
        predicted=predicted,
        confidence=sure,
        of_label=sure if of_label is None else of_label,
    )
    return row._replace(**values)


def table(vocabulary: Sequence[str], *rows: Answer) -> AnswerTable:
    """Return a table of answers; an image without a family is one by itself."""
    named = [row._replace(family=row.family or row.image_hash) for row in rows or [answer(0, 0, 0)]]
    columns = [np.array(column) for column in zip(*named, strict=True)]
    made = AnswerTable(vocabulary, *columns)
    return made if rows else made.select(np.empty(0, np.int64))


def of_cells(vocabulary: Sequence[str], *cells: Cell) -> AnswerTable:
    """Return a table with these cells of its confusion matrix."""
    pairs = [(label, predicted) for label, predicted, count in cells for _ in range(count)]
    return table(vocabulary, *[answer(number, *pair) for number, pair in enumerate(pairs)])


def figures(correct: int, count: int) -> AccuracyFigures:
    """Return the accuracy on `count` independent images, of which so many are right."""
    return accuracy_figures(np.arange(count) < correct, np.arange(count))


def counted(
    images: Sequence[int],
    right: Sequence[int],
    vocabulary: Sequence[str] = ("good", "defect"),
) -> AnswerTable:
    """Return a table with so many images of each class, of which so many are right.

    For the others the first class is predicted, and for those of the first class the second.
    """
    pairs: list[tuple[int, int]] = []
    for label, (count, correct) in enumerate(zip(images, right, strict=True)):
        pairs += [(label, label)] * correct
        pairs += [(label, 0 if label else 1)] * (count - correct)
    return table(vocabulary, *[answer(number, *pair) for number, pair in enumerate(pairs)])


def compared(*cells: tuple[int, int, bool, bool]) -> tuple[AnswerTable, AnswerTable]:
    """Return the answers of a model and of the last version to the same images of two classes.

    A cell is the number of images, their label, whether the model is right for them, and whether
    the last version is.
    """
    rows = itertools.chain.from_iterable([cell[1:]] * cell[0] for cell in cells)
    now: list[Answer] = []
    before: list[Answer] = []
    for number, (label, is_right, was_right) in enumerate(rows):
        now.append(answer(number, label, label if is_right else 1 - label))
        before.append(answer(number, label, label if was_right else 1 - label))
    return table(("good", "defect"), *now), table(("good", "defect"), *before)
