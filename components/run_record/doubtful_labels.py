"""Labels that look wrong: a ranking of the images of a feature bank.

They are the mistakes of models that have not seen the image: those of the folds, where these decide
about the model, and otherwise those of the model for validation; and those of the model for test.
An image of train that no such model has answered is scored by heads that were fitted without it (k
folds). The images are ranked by the probability that the label is wrong; a label is called doubtful
if it is more probably wrong than right. All others are mistakes of the models.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Annotated

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.named_images import PlacedImage
from imgpipe.components.common.storage import records
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.head.label_margins import label_margins
from imgpipe.models.head.wrong_labels import wrong_label_probabilities
from imgpipe.models.names.arrays import Flags, Floats, Integers

#: A label that is wrong with a higher probability is doubtful; see docs/benchmarks.md, "Wrong
#: labels".
DOUBTFUL = 0.5
#: The probability of a label against the best other class is the logistic function of this multiple
#: of the margin of a head, of which most are between -1 and 1.
_STEEP = 4
LIMIT = 500  # rows that are listed
_FEWEST = 20  # number of images for which folds are meaningful


class DoubtfulLabel(PlacedImage):
    """An image that looks like another class than that of its label."""

    looks_like: Annotated[str, "The class that a model which has not seen the image answers."]
    wrong: Annotated[float, "Probability that the label is wrong, 0..1."]


class DoubtfulLabels(TypedDict):
    """The labels that a model which has not seen the image contradicts."""

    images: Annotated[int, "Number of images that were compared with their labels."]
    disagree: Annotated[int, "Number of images that look like another class."]
    doubtful: Annotated[int, "Number of these whose label is more probably wrong than right."]
    rows: Annotated[list[DoubtfulLabel], "The first of these, the most likely label errors first."]


def doubtful_labels(
    rows: BankRows,
    bank_uri: str,
    vocabulary: Sequence[str],
    answers: AnswerTable,
    unlearned: Sequence[int] = (),
    confirmed: Set[str] = frozenset(),
) -> DoubtfulLabels | None:
    """Rank the doubtful labels of a feature bank, the most likely label errors first.

    The answers are those by networks that have not seen the images: those that decided about the
    model, and those for the test split. No fold could learn the classes of `unlearned`, so that
    their mistakes say nothing about the labels, and the labels of the `confirmed` hashes have been
    confirmed by a person. None where there are too few images, groups or classes for a ranking.
    """
    if len(rows) < _FEWEST or len(np.unique(rows.labels)) < 2:
        return None
    wrong = np.zeros(len(rows))
    looks_like = np.asarray(rows.labels).copy()
    settled = np.isin(rows.hashes, [digest.encode() for digest in confirmed])
    settled |= np.isin(rows.labels, unlearned)
    others = ~np.isin(rows.hashes, answers.hashes)
    if others.any():  # images of train, where the validation split decides
        folds = rows.folds(FOLDS)
        if len(np.unique(folds)) < 2:  # one large group, such as a film
            return None
        others &= ~(_alone(rows.labels, folds) | settled)
        looks_like[others], wrong[others] = _by_heads(rows, folds, others, len(vocabulary))
    answered = answers.select(np.isin(answers.hashes, rows.hashes[~settled]))
    _, places, answers_at = np.intersect1d(rows.hashes, answered.hashes, return_indices=True)
    looks_like[places] = answered.predicted[answers_at]
    of_other = np.where(answered.right, 0, answered.confidence)
    in_doubt = wrong_label_probabilities(answered.of_label, of_other, len(vocabulary))
    wrong[places] = in_doubt[answers_at]
    disagreeing = np.flatnonzero((looks_like != rows.labels) & ~settled)
    worst = disagreeing[np.argsort(-wrong[disagreeing], kind="stable")][:LIMIT]
    split_and_path = records.places(bank_uri, rows.hashes[worst])
    listed: list[DoubtfulLabel] = [
        {
            "path": split_and_path[rows.hashes[place]][1],
            "label": vocabulary[rows.labels[place]],
            "image_hash": rows.hashes[place].decode(),
            "split": split_and_path[rows.hashes[place]][0],
            "looks_like": vocabulary[looks_like[place]],
            "wrong": round(float(wrong[place]), 4),
        }
        for place in worst
    ]
    return {
        "images": len(rows),
        "disagree": len(disagreeing),
        "doubtful": int((wrong[disagreeing] > DOUBTFUL).sum()),
        "rows": listed,
    }


def _by_heads(
    rows: BankRows, folds: Integers, chosen: Flags, classes: int
) -> tuple[Integers, Floats]:
    """Return the class that each chosen image looks like, and how probably its label is wrong."""
    features = rows.first_block().features
    margins, best = label_margins(features, rows.labels, folds, classes)
    of_label = 1 / (1 + np.exp(_STEEP * margins[chosen].astype(np.float64)))
    of_other = np.where(of_label < 1 / 2, 1 - of_label, 0)
    return best[chosen], wrong_label_probabilities(of_label, of_other, 2)


def _alone(labels: Integers, folds: Integers) -> Flags:
    """Return which images have a class that no other fold has, so that no head knows it."""
    counts = np.zeros((int(folds.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (folds, labels), 1)
    return np.asarray(counts[folds, labels] == counts.sum(axis=0)[labels])
