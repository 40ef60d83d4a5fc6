"""Labels that look wrong: a ranking of the images of a feature bank.

They are the mistakes of models that have not seen the image: those of the folds, where these decide
about the model, and otherwise those of the model for validation; and those of the model for test.
An image of train that no such model has answered is scored by heads that were fitted without it (k
folds). The images are ranked by how much more probable the best other class is than the label,
which is the simplest form of confident learning (Northcutt et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Annotated

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.named_images import PlacedImage
from imgpipe.components.common.storage import records
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.head.label_margins import label_margins
from imgpipe.models.names.arrays import Flags, Integers

if TYPE_CHECKING:
    from imgpipe.components.run_record.metrics import DecidingAnswers

#: Smallest margin of a label that is clearly doubtful. Probabilities are between 0 and 1, and the
#: scores of heads about so.
CLEAR = 0.3
#: Below this accuracy of the models, many of their doubts are their own mistakes.
_WEAK = 0.85
LIMIT = 500  # doubtful labels that are listed
_FEWEST = 20  # number of images for which folds are meaningful


class DoubtfulLabel(PlacedImage):
    """An image that looks like another class than that of its label."""

    looks_like: Annotated[str, "The class that a model which has not seen the image answers."]
    margin: Annotated[float, "By how much this class is more probable than the label."]


class DoubtfulLabels(TypedDict):
    """The labels that look wrong."""

    images: Annotated[int, "Number of images that were compared with their labels."]
    disagree: Annotated[int, "Number of images that look like another class."]
    rows: Annotated[list[DoubtfulLabel], "The first of these, the most likely label errors first."]


def doubtful_labels(
    rows: BankRows,
    bank_uri: str,
    vocabulary: Sequence[str],
    answers: AnswerTable,
    unlearned: Sequence[int] = (),
    confirmed: Set[str] = frozenset(),
    limit: int = LIMIT,
) -> DoubtfulLabels | None:
    """Rank the doubtful labels of a feature bank, the most likely label errors first.

    Args:
        rows: Rows of view 0 of all splits.
        bank_uri: URI of the bank, which tells the paths.
        vocabulary: Class names in sorted order.
        answers: Answers by networks that have not seen the images: those that decided about the
            model, and those for the test split.
        unlearned: Labels that no fold could learn; these mistakes say nothing about the labels.
        confirmed: Hashes of images whose labels a person has confirmed; they are not listed.
        limit: Largest number of rows in the result.

    Returns:
        The ranking; None if there are too few images, groups or classes for one.
    """
    if len(rows) < _FEWEST or len(np.unique(rows.labels)) < 2:
        return None
    margins = np.zeros(len(rows), np.float32)
    looks_like = np.asarray(rows.labels).copy()
    others = ~np.isin(rows.hashes, answers.hashes)
    if others.any():  # images of train, where the validation split decides
        folds = rows.folds(FOLDS)
        if len(np.unique(folds)) < 2:  # one large group, such as a film
            return None
        features = rows.first_block().features
        scored, best = label_margins(features, rows.labels, folds, len(vocabulary))
        others &= ~_alone(rows.labels, folds)
        margins[others] = scored[others]
        looks_like[others] = best[others]
    wrong = answers.select(~answers.right)
    _, places, mistakes = np.intersect1d(rows.hashes, wrong.hashes, return_indices=True)
    looks_like[places] = wrong.predicted[mistakes]
    margins[places] = (wrong.confidence - wrong.of_label)[mistakes]
    settled = np.isin(rows.hashes, [digest.encode() for digest in confirmed])
    settled |= np.isin(rows.labels, unlearned)
    disagreeing = np.flatnonzero((looks_like != rows.labels) & ~settled)
    worst = disagreeing[np.argsort(-margins[disagreeing], kind="stable")][:limit]
    split_and_path = records.places(bank_uri, rows.hashes[worst])
    listed: list[DoubtfulLabel] = [
        {
            "path": split_and_path[rows.hashes[place]][1],
            "label": vocabulary[rows.labels[place]],
            "image_hash": rows.hashes[place].decode(),
            "split": split_and_path[rows.hashes[place]][0],
            "looks_like": vocabulary[looks_like[place]],
            "margin": round(float(margins[place]), 4),
        }
        for place in worst
    ]
    return {"images": len(rows), "disagree": len(disagreeing), "rows": listed}


def _alone(labels: Integers, folds: Integers) -> Flags:
    """Return which images have a class that no other fold has, so that no head knows it."""
    counts = np.zeros((int(folds.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (folds, labels), 1)
    return np.asarray(counts[folds, labels] == counts.sum(axis=0)[labels])


def clearly_doubtful(rows: Sequence[DoubtfulLabel]) -> list[DoubtfulLabel]:
    """Select the rows of the ranking whose margin is at least `CLEAR`."""
    return [row for row in rows if row["margin"] >= CLEAR]


def weak_accuracy(deciding: DecidingAnswers | None) -> float | None:
    """Return the accuracy of models many of whose doubts are mistakes; None for better ones."""
    accuracy = deciding["accuracy"] if deciding is not None else None
    return accuracy if accuracy is not None and accuracy < _WEAK else None
