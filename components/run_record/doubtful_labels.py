"""What is known of every image of a feature bank, and the labels that look wrong.

Doubtful labels are mistakes of models that have not seen the image: those of the folds, where these
decide about the model, and otherwise those of the model for validation; and those of the model for
test. An image of train that no such model has answered is answered by the head of a fold. The
images are ranked by the probability that the label is wrong; a label is called doubtful if it is
more probably wrong than right. All others are mistakes of the models.

The answers to all images, and how unlike others these are, are kept in columns, by which
`imgpipe review` sorts them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common import images as tables
from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.image_row import PlacedImage
from imgpipe.components.run_record.shown_images import Distances
from imgpipe.models.arrays import Flags, Floats, Integers, Names
from imgpipe.models.features.bank import BankRows, Regression
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.calibration import fit_temperature, softmax, wrong_label_probabilities
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.settings.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

#: A label that is wrong with a higher probability is doubtful; see docs/benchmarks.md, "Wrong
#: labels".
DOUBTFUL = 0.5
#: A label that is wrong with a higher probability is proposed to be changed. Of 342 such labels of
#: seven sets 336 were wrong (docs/how-to/bad-labels.md).
SURELY_WRONG = 0.9
#: In closed form, so that two passes over the features are enough for the head of a fold.
_REGRESSION = Regression("ridge_regression", 1.0)
#: Most features that these heads read, evenly drawn. Backbones that flatten their map have more.
_WIDEST = 2048
LIMIT = 500  # rows that are listed
_FEWEST = 20  # number of images for which folds are meaningful

#: An image is unlike others if its distance is above the median by more robust standard
#: deviations. Of 8 photographs of cats among 500 of flowers, 7 are, and of the flowers 2 %; of
#: 8 flowers among 500 cats and dogs 3 are, and 0.4 % of the others.
UNLIKE = 2.5
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_TINY = 1e-12
_LEAST_WRONG = 1e-4  # of a label that is contradicted, which no rounding makes 0


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


@dataclass(frozen=True)
class ComparedLabels:
    """Labels beside the answers of networks that have not seen the images, as arrays [n].

    Attributes:
        hashes: Content hash of each image.
        labels: Index of its label.
        predicted: Index of the answered class; -1 where no such network has answered.
        sure: Probability of that class.
        wrong: Probability that the label is wrong; 0 where the label was answered, where a person
            has confirmed it, and where no network could learn the class.
    """

    hashes: Names
    labels: Integers
    predicted: Integers
    sure: Floats
    wrong: Floats

    def ranking(self, images: pd.DataFrame, vocabulary: Sequence[str]) -> DoubtfulLabels | None:
        """Return the images that look like another class, the most likely label errors first.

        None if no such network has answered.
        """
        if (self.predicted < 0).all():
            return None
        disagreeing = np.flatnonzero(self.wrong)
        worst = disagreeing[np.argsort(-self.wrong[disagreeing], kind="stable")][:LIMIT]
        placed = tables.placed(tables.find(images, self.hashes[worst]))
        listed: list[DoubtfulLabel] = [
            {
                **image,
                "looks_like": vocabulary[self.predicted[place]],
                "wrong": round(float(self.wrong[place]), 4),
            }
            for place, image in zip(worst, placed, strict=True)
        ]
        return {
            "images": len(self.hashes),
            "disagree": len(disagreeing),
            "doubtful": int((self.wrong > DOUBTFUL).sum()),
            "rows": listed,
        }


def compared_labels(
    rows: BankRows,
    classes: int,
    answers: AnswerTable,
    unlearned: Sequence[int] = (),
    confirmed: Set[str] = frozenset(),
) -> ComparedLabels:
    """Compare the labels of a feature bank with answers by networks that have not seen the images.

    The answers are those that decided about the model, and those for the test split. No fold could
    learn the classes of `unlearned`, so that their mistakes say nothing about the labels, and the
    labels of the `confirmed` hashes have been confirmed by a person. Nothing is answered where
    there are too few images, groups or classes.
    """
    labels = np.asarray(rows.labels)
    predicted = np.full(len(rows), -1)
    sure = np.zeros(len(rows))
    wrong = np.zeros(len(rows))
    compared = ComparedLabels(rows.hashes, labels, predicted, sure, wrong)
    if len(rows) < _FEWEST or len(np.unique(labels)) < 2:
        return compared
    settled = np.isin(rows.hashes, [digest.encode() for digest in confirmed])
    settled |= np.isin(labels, unlearned)
    _, places, answers_at = np.intersect1d(rows.hashes, answers.hashes, return_indices=True)
    answered = answers.select(answers_at)
    answerers: list[tuple[Integers, Integers, Floats, Floats]] = [
        (places, answered.predicted, answered.confidence, answered.of_label)
    ]
    others = ~np.isin(rows.hashes, answers.hashes)
    if others.any():  # images of train, where the validation split decides
        of_folds = _by_folds(rows, others, classes)
        if of_folds is None:  # one large group, such as a film
            return compared
        answerers.append(of_folds)
    for of_rows, seen_as, confidence, of_label in answerers:
        predicted[of_rows] = seen_as
        sure[of_rows] = confidence
        asked = ~settled[of_rows]
        of_other = np.where(seen_as == labels[of_rows], 0, confidence)
        groups = rows.groups[of_rows[asked]]
        in_doubt = wrong_label_probabilities(of_label[asked], of_other[asked], classes, groups)
        wrong[of_rows[asked]] = in_doubt
    wrong[predicted == labels] = 0
    return compared


def _by_folds(
    rows: BankRows, wanted: Flags, classes: int
) -> tuple[Integers, Integers, Floats, Floats] | None:
    """Return which of the wanted images the heads of folds know, and what they answer.

    The answers are the class that each of these images looks like, its probability, and that of the
    label. None without folds.
    """
    first = rows.first_block()
    step = -(-first.features.shape[1] // _WIDEST)
    thinned = replace(first, features=first.features[:, ::step], sizes=())
    folds = HeadSolver(thinned, classes, Settings()).out_of_fold(_REGRESSION)
    if not folds:
        return None
    answers = Answers.joined(folds)
    learned = answers.answerable
    temperature = fit_temperature(answers.logits[learned], answers.labels[learned])
    order = np.argsort(np.asarray(answers.hashes), kind="stable")  # that of the rows
    places = np.flatnonzero(wanted & learned[order])
    shares = softmax(answers.logits[order[places]] / temperature)
    of_label = shares[np.arange(len(places)), rows.labels[places]]
    return places, shares.argmax(axis=1), shares.max(axis=1), of_label


class ImageAnswers(TypedDict):
    """Images in columns, one value for each of them."""

    image_hash: Annotated[list[str], "SHA-256 of the file."]
    predicted: Annotated[
        list[int], "Class that a network which has not seen the image answers; -1 for none."
    ]
    sure: Annotated[list[float], "Probability of that class."]
    wrong: Annotated[list[float], "Probability that the label is wrong; 0 where it was answered."]
    unlike_class: Annotated[
        list[float], "Distance from its class, in standard deviations above the usual one."
    ]
    unlike_all: Annotated[list[float], "The same for the class that is nearest to the image."]


def image_answers(distances: Distances, compared: ComparedLabels) -> ImageAnswers:
    """Return the columns."""
    wrong = compared.wrong
    shown_wrong = np.where(wrong > 0, np.maximum(wrong, _LEAST_WRONG), 0)
    return {
        "image_hash": compared.hashes.astype(str).tolist(),
        "predicted": compared.predicted.tolist(),
        "sure": _rounded(compared.sure),
        "wrong": _rounded(shown_wrong),
        "unlike_class": _rounded(_deviations(distances.own)),
        "unlike_all": _rounded(_deviations(distances.nearest)),
    }


def _deviations(distance: Floats) -> Floats:
    """Return by how many robust standard deviations each value lies above the median."""
    above = distance - np.median(distance)
    return np.asarray(above / (_MAD_TO_DEVIATION * np.median(np.abs(above)) + _TINY))


def _rounded(values: Floats) -> list[float]:
    rounded: list[float] = np.round(values.astype(float), 4).tolist()
    return rounded
