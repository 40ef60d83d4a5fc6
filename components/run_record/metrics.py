"""What follows from a table of answers: accuracies, confusions, and slices of the images."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Literal

import numpy as np
from typing_extensions import TypedDict

from imgpipe.components.common.answer_table import AnsweredImage, AnswerTable, ClassMetrics
from imgpipe.models.arrays import Array
from imgpipe.models.head.calibration import confidence_error, error_by_chance
from imgpipe.models.head.certainty import CHANCE, AccuracyFigures

_MOST_VALUES = 12  # formats or folders; the rest of many folders says little
_TINY = 1e-7  # smallest probability, which keeps its logarithm finite
_MISTAKES = 48  # number of mistakes that the page shows
#: Classes of the matrix. Of more, those that are most often taken for each other are chosen.
MATRIX = 12
_IMAGES_OF_A_CELL = 3  # so that six columns fit beside each other
_SAMPLE = 400  # images of the map, so that it takes two seconds
#: Whose answers they are: those of the folds, those for the validation split, or those for the
#: images of an evaluation.
AnsweredBy = Literal["folds", "validation", "evaluation"]


class Slice(AccuracyFigures):
    """The images of one kind; the chance of 5 % that an interval misses is divided among all."""

    value: Annotated[str, "The kind."]


class SliceGroup(TypedDict):
    """Images divided by one attribute."""

    name: Annotated[str, "The attribute."]
    accuracy: Annotated[float, "Accuracy on all images of which the attribute is known."]
    rows: Annotated[list[Slice], "The kinds."]


def slices(table: AnswerTable) -> list[SliceGroup]:
    """Return a list of slices for each attribute in which the images differ."""
    groups: list[tuple[str, float, dict[str, AnswerTable]]] = []
    for name, values in _attributes(table):
        known = values.astype(np.bool_)  # 0 and "" stand for an unknown value
        if not known.any():
            continue
        with_value = table.select(known)
        divided = _frequent if values.dtype == np.object_ else _thirds
        kind_of, ordered = divided(values[known])
        if len(ordered) < 2:
            continue
        of_kinds = {kind: with_value.select(kind_of == kind) for kind in ordered}
        groups.append((name, float(with_value.right.mean()), of_kinds))
    # One kind of many is weaker by chance more often than a single one.
    chance = CHANCE / max(sum(len(of_kinds) for *_, of_kinds in groups), 1)
    return [
        {
            "name": name,
            "accuracy": accuracy,
            "rows": [{"value": kind, **rows.figures(chance)} for kind, rows in of_kinds.items()],
        }
        for name, accuracy, of_kinds in groups
    ]


def _attributes(table: AnswerTable) -> Iterator[tuple[str, Array]]:
    """Yield the name of each attribute, and its value for each image, [n]."""
    yield "format", np.char.decode(table.formats, "ascii", "replace").astype(np.object_)
    folders = [str(PurePosixPath(path).parent) for path in table.paths]
    if len(set(zip(folders, table.labels.tolist(), strict=True))) > len(set(folders)):
        yield "folder", np.array(folders, np.object_)  # otherwise a folder is a class
    yield "shorter side", np.minimum(table.widths, table.heights)
    yield "brightness", table.brightness
    yield "sharpness", table.sharpness


def _frequent(values: Array) -> tuple[Array, list[str]]:
    """Return the values, and the most frequent ones."""
    most = sorted(Counter(values).items(), key=lambda entry: (-entry[1], entry[0]))
    return values, [value for value, _ in most[:_MOST_VALUES]]


def _thirds(values: Array) -> tuple[Array, list[str]]:
    """Return the third of each number, with about as many images each, and the thirds in order."""
    edges = np.unique(np.quantile(values, [1 / 3, 2 / 3], method="lower"))
    texts = [f"{edge:.3g}" if edge < 100 else f"{edge:,.0f}" for edge in edges]
    thirds = [
        f"up to {texts[0]}",
        *(f"{low} to {high}" for low, high in itertools.pairwise(texts)),
        f"above {texts[-1]}",
    ]
    places = np.searchsorted(edges, values)
    return np.array(thirds)[places], [thirds[place] for place in np.unique(places)]


class ProbabilityMetrics(TypedDict):
    """How good the probabilities are."""

    loss: Annotated[float | None, "Cross-entropy of the images of a class; null if there are none."]
    ece: Annotated[float | None, "Expected calibration error of these images."]
    ece_by_chance: Annotated[
        float | None,
        "What it would be on average on this number of images if all probabilities were correct.",
    ]


class SplitMetrics(AccuracyFigures, ProbabilityMetrics):
    """Metrics of the folds, of a split, or of the images of an evaluation."""

    seen: Annotated[
        AccuracyFigures | None,
        "The accuracy on further images, which are in no other figure: the model has learned from "
        "their families, or from the images themselves; null without any.",
    ]
    per_class: Annotated[dict[str, ClassMetrics], "Metrics by class."]


class Remaining(TypedDict):
    """The answers that remain where those of a lower probability are left out as unsure."""

    below: Annotated[float, "Probability below which an answer is unsure."]
    answered: Annotated[int, "Number of answers that remain."]
    right: Annotated[int, "Number of these that are right."]


class JudgedAnswers(TypedDict):
    """The answers that decide; their figures are in the metrics."""

    judged_by: Annotated[AnsweredBy, "Whose answers they are."]
    threshold: Annotated[float | None, "Accuracy that is asked for; null if none is."]
    confusion: Annotated[
        list[list[int]],
        "Index of the label, index of the predicted class, and number of images, for each pair "
        "that occurs.",
    ]
    matrix: Annotated[list[int], "Indices of the classes of the matrix, in ascending order."]
    images: Annotated[
        list[AnsweredImage], "The first images of each of its cells, the surest first."
    ]
    mistakes: Annotated[list[AnsweredImage], "The most confident mistakes."]
    remaining: Annotated[
        list[Remaining], "What remains as more certainty is asked for; first, all answers."
    ]


def metrics(table: AnswerTable) -> SplitMetrics:
    """Compute accuracy, log loss, calibration error and the metrics of each class.

    Images of families from which the model has learned are counted apart. The calibration error is
    that of the predicted class (Guo et al. 2017).
    """
    unseen = table.unseen()
    seen = table.select(~np.isin(table.hashes, unseen.hashes))
    return {
        **unseen.figures(),
        "seen": seen.figures() if len(seen) else None,
        **_of_probabilities(unseen),
        "per_class": unseen.per_class(),
    }


def _of_probabilities(table: AnswerTable) -> ProbabilityMetrics:
    if not len(table):
        return {"loss": None, "ece": None, "ece_by_chance": None}
    return {
        "loss": float(-np.log(np.maximum(table.of_label, _TINY)).mean()),
        "ece": confidence_error(table.confidence, table.right),
        "ece_by_chance": error_by_chance(table.confidence),
    }


def judged_answers(
    judged_by: AnsweredBy, threshold: float | None, table: AnswerTable
) -> JudgedAnswers:
    """Return the answers that decide, as they are written as JSON."""
    confusion = [list(cell) for cell in table.confusion()]
    matrix = most_confused(confusion, len(table.vocabulary))
    wrong = table.select(~table.right)
    return {
        "judged_by": judged_by,
        "threshold": threshold,
        "confusion": confusion,
        "matrix": matrix,
        "images": _cell_images(table, matrix),
        "mistakes": wrong.described(wrong.surest()[:_MISTAKES]),
        "remaining": remaining(table),
    }


def remaining(table: AnswerTable) -> list[Remaining]:
    """Return what remains of the answers for each hundredth of probability that is asked for."""
    hundredths = np.floor(table.confidence * 100).astype(int)
    rows: list[Remaining] = []
    for least in np.unique(hundredths).tolist():
        kept = hundredths >= least
        below = least / 100 if rows else 0.0
        right = int(table.right[kept].sum())
        rows.append({"below": below, "answered": int(kept.sum()), "right": right})
    return rows


def sample(table: AnswerTable) -> AnswerTable:
    """Return the rows of the map.

    A content hash is as good as a random number, and the same in every run.
    """
    return table.select(np.argsort(table.hashes)[:_SAMPLE])


def _cell_images(table: AnswerTable, matrix: Sequence[int]) -> list[AnsweredImage]:
    """Return the surest images of the cells of these classes."""
    shown = table.select(np.isin(table.labels, matrix) & np.isin(table.predicted, matrix))
    by_cell: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in shown.surest():
        by_cell[shown.labels[row], shown.predicted[row]].append(row)
    surest = (of_cell[:_IMAGES_OF_A_CELL] for _, of_cell in sorted(by_cell.items()))
    return shown.described(itertools.chain.from_iterable(surest))


def most_confused(confusion: Sequence[Sequence[int]], classes: int) -> list[int]:
    """Return the classes of the matrix: all of a few, or those of the most frequent mistakes."""
    if classes <= MATRIX:
        return list(range(classes))
    chosen: set[int] = set()
    for pair, _ in confused_pairs(confusion).most_common():
        if len(chosen | set(pair)) <= MATRIX:
            chosen |= set(pair)
    return sorted(chosen)


def confused_pairs(confusion: Iterable[Sequence[int]]) -> Counter[tuple[int, int]]:
    """Count the mistakes by the two classes that were taken for each other."""
    wrong: Counter[tuple[int, int]] = Counter()
    for label, predicted, count in confusion:
        if label != predicted:
            wrong[min(label, predicted), max(label, predicted)] += count
    return wrong
