"""Made-up tables of answers."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from imgpipe.components.common.answer_table import COLUMNS, AnswerTable, Cell
from imgpipe.models import names
from imgpipe.models.head.certainty import AccuracyFigures, accuracy_figures


class Answer(NamedTuple):
    """The answer to an image, in the order of the columns of a table."""

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
    format: bytes = b""
    shorter_side: int = 0
    brightness: float = 0.0
    sharpness: float = 0.0


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
        f"{number}.jpg",
        f"{number:064x}".encode(),
        names.VALIDATION,
        label,
        predicted,
        sure,
        sure if of_label is None else of_label,
    )
    return row._replace(**values)


def table(vocabulary: Sequence[str], *rows: Answer) -> AnswerTable:
    """Return a table of these rows."""
    columns = dict(zip(COLUMNS, map(np.array, zip(*rows, strict=True)), strict=bool(rows)))
    return AnswerTable.of(vocabulary, [columns] if rows else [])


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
    """Return a table with these numbers for each class.

    Args:
        images: Number of images with each label.
        right: Number of images with each label for which it is predicted. For the others the first
            class is predicted, and for those of the first class the second.
        vocabulary: Class names.
    """
    pairs: list[tuple[int, int]] = []
    for label, (count, correct) in enumerate(zip(images, right, strict=True)):
        pairs += [(label, label)] * correct
        pairs += [(label, 0 if label else 1)] * (count - correct)
    return table(vocabulary, *[answer(number, *pair) for number, pair in enumerate(pairs)])


def compared(
    *cells: tuple[int, int, bool, bool],
    vocabulary: Sequence[str] = ("good", "defect"),
) -> tuple[AnswerTable, AnswerTable]:
    """Return the answers of a model and of the last version to the same images of two classes.

    Args:
        *cells: Number of images, their label, whether the model is right for them, and whether the
            last version is.
        vocabulary: Class names.
    """
    rows = itertools.chain.from_iterable([cell[1:]] * cell[0] for cell in cells)
    now: list[Answer] = []
    before: list[Answer] = []
    for number, (label, is_right, was_right) in enumerate(rows):
        now.append(answer(number, label, label if is_right else 1 - label))
        before.append(answer(number, label, label if was_right else 1 - label))
    return table(vocabulary, *now), table(vocabulary, *before)
