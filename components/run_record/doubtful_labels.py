"""Labels that look wrong: a ranking of the images of a feature bank.

They are the mistakes of models that have not seen the image: those of the folds, where these decide
about the model, and otherwise those of the model for validation; and those of the model for test.
An image of train that no such model has answered is answered by the head of a fold. The images are
ranked by the probability that the label is wrong; a label is called doubtful if it is more probably
wrong than right. All others are mistakes of the models.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Annotated

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.image_record import PlacedImage
from imgpipe.components.common.storage import records
from imgpipe.models.arrays import Flags, Floats, Integers
from imgpipe.models.features.bank import BankRows, Regression
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.calibration import fit_temperature, softmax, wrong_label_probabilities
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.settings.model import ModelSettings

#: A label that is wrong with a higher probability is doubtful; see docs/benchmarks.md, "Wrong
#: labels".
DOUBTFUL = 0.5
#: In closed form, so that two passes over the features are enough for the head of a fold.
_REGRESSION = Regression("ridge_regression", 1.0)
#: Most features that these heads read, evenly drawn. Backbones that flatten their map have more.
_WIDEST = 2048
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
        of_folds = _by_folds(rows, others & ~settled, len(vocabulary))
        if of_folds is None:  # one large group, such as a film
            return None
        places, seen_as, in_doubt = of_folds
        looks_like[places] = seen_as
        wrong[places] = in_doubt
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


def _by_folds(
    rows: BankRows, wanted: Flags, classes: int
) -> tuple[Integers, Integers, Floats] | None:
    """Return which of the wanted images the heads of folds know, and what they answer.

    The answers are the class that each of these images looks like, and the probability that its
    label is wrong. None without folds.
    """
    first = rows.first_block()
    step = -(-first.features.shape[1] // _WIDEST)
    thinned = replace(first, features=first.features[:, ::step], sizes=())
    folds = HeadSolver(thinned, classes, ModelSettings()).out_of_fold(_REGRESSION)
    if not folds:
        return None
    answers = Answers.joined([of_fold for of_fold, _ in folds])
    learned = answers.answerable
    temperature = fit_temperature(answers.logits[learned], answers.labels[learned])
    order = np.argsort(np.asarray(answers.hashes), kind="stable")  # that of the rows
    places = np.flatnonzero(wanted & learned[order])
    shares = softmax(answers.logits[order[places]] / temperature)
    labels = rows.labels[places]
    looks_like = shares.argmax(axis=1)
    of_label = shares[np.arange(len(places)), labels]
    of_other = np.where(looks_like == labels, 0, shares.max(axis=1))
    return places, looks_like, wrong_label_probabilities(of_label, of_other, classes)
