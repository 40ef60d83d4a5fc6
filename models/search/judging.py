"""What judges: the validation split, or folds of train and validation.

Folds judge a solved head in a fraction of a second, because the features are stored already, and it
then learns from both splits. The networks of a search are judged by the images of the validation
split, or of few images by all, in folds: the network of a fold is trained on the images of the
others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from imgpipe.models import names
from imgpipe.models.arrays import Flags
from imgpipe.models.errors import DataRefused
from imgpipe.models.features.bank import BankRows, Regression, read_facts, read_rows
from imgpipe.models.features.folds import FEW_IMAGES, FOLDS, MOST_OF_HEADS
from imgpipe.models.features.rows import Labelled
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.solved_head import HeadSolver, Solution
from imgpipe.models.machine import progress
from imgpipe.models.settings.section import AUTOMATIC
from imgpipe.models.training import stages
from imgpipe.models.training.history import Folds, JudgedBy, NetworkHistory, summary
from imgpipe.models.training.stages import Inputs, Part, Trained

if TYPE_CHECKING:
    import keras

_BOTH: Final[tuple[str, ...]] = (names.TRAIN, names.VALIDATION)
#: Number of folds that judge the networks of the search, of as many images as those of heads. A
#: network is trained for each fold, so there are fewer than for heads.
NETWORK_FOLDS: Final = 3


def head_from_both_splits(inputs: Inputs) -> Trained | None:
    """Solve the head on the images of train and validation, and judge it by folds, if these decide.

    An image that judges nothing teaches. The folds that choose the penalty also judge, each image
    by a head without it.

    Return None where the validation split judges, or the network that is trained is not a solved
    head. A DataRefused says that there are too few images for the number of folds that a setting
    gives.
    """
    settings = inputs.settings
    automatic = inputs.folds == AUTOMATIC
    if not (inputs.folds and settings.head_alone and read_facts(inputs.bank_uri)["sizes"]):
        return None
    training, validation = stages.read_splits(inputs)
    if automatic and not _folds_judge(inputs, training, validation):
        return None
    count = FOLDS if automatic else inputs.folds
    rows = read_rows(inputs.bank_uri, _BOTH, inputs.classes, settings.views.count)
    progress.part("the head")
    solver = HeadSolver(rows, inputs.classes, settings)
    head = stages.fitted_head(solver, learning_curve=True)
    solution = head.history["solution"]
    if solution is None:
        return None
    progress.part("the folds")
    folds = solver.out_of_fold(Regression(solution["method"], solution["l2"]), count)
    if not folds and automatic:  # nobody has asked for folds
        return None
    if not folds:
        raise DataRefused(
            f"evaluate.cross_validate = {count}: expected at least {2 * count} images, or groups "
            f"of them, and a class of several groups. Received: {len(np.unique(rows.groups))} "
            "groups. Lower it, or add images"
        )
    result = summary(folds, automatic, len(validation))
    if count == FOLDS:  # there is one accuracy of five folds
        solution = _as_judged(solution, result)
    history: NetworkHistory = {
        **head.history,
        "solution": solution,
        "learned": {names.TRAIN: int(training.is_view_0.sum()), names.VALIDATION: len(validation)},
        "cross_validation": result,
    }
    distribution = stages.row_distribution(training, validation)
    return Trained(head.layers, Answers.joined(folds), history, distribution, by_folds=True)


def _folds_judge(inputs: Inputs, training: BankRows, validation: BankRows) -> bool:
    """Return whether folds judge instead of the validation split, if no setting says so.

    They do where validation has few images of families that train does not have. They also do where
    nobody has set these images aside and the folds cost nothing, since what they teach is worth
    more than another judgement.
    """
    new = stages.is_new(training, validation)
    if len(np.unique(validation.groups[new])) < FEW_IMAGES:
        return True
    images = int(training.is_view_0.sum()) + len(validation)
    return read_facts(inputs.bank_uri)["validation_drawn"] and images <= MOST_OF_HEADS


def _as_judged(solution: Solution, folds: Folds) -> Solution:
    """Return a solution with the accuracy of the folds that judge.

    Of many images, those of the solution are answers of heads that have learned from a sample.
    """
    accuracy = folds["correct"] / folds["images"]
    curve = solution["learning_curve"]
    if curve:
        curve = [*curve[:-1], {**curve[-1], "accuracy": accuracy}]
    return {**solution, "accuracy": accuracy, "learning_curve": curve}


class Judging(NamedTuple):
    """Which images judge networks, and which ones a network is trained on."""

    by: JudgedBy  # what judges, as in the rows of the search
    parts: list[Part]  # those on which networks are judged
    #: Makes the part that tells after a third of the work whether a network may be better.
    trial: Callable[[], Part]
    whole: Part  # the part of the network that ships, which has the images of the head

    @property
    def ships_another(self) -> bool:
        """Whether the network that ships is none of those that are judged."""
        return self.whole is not self.parts[0]

    @property
    def trainings(self) -> list[Part]:
        """The parts of all networks, in the order in which they are trained."""
        return [*self.parts, self.whole] if self.ships_another else self.parts


def images_of(parts: Iterable[Part]) -> int:
    """Return how many images the networks of some parts are trained on."""
    return sum(len(part.training) for part in parts)


def network_folds(images: int, independent: int) -> int:
    """Return how many folds judge the networks of a search; 0 if the validation split does.

    The images are those of train and validation. Of the independent ones of validation, whose
    families train does not have, a family is one.
    """
    return NETWORK_FOLDS if independent < FEW_IMAGES and images <= MOST_OF_HEADS else 0


def judging_parts(inputs: Inputs, head: Trained) -> Judging:
    """Decide which images judge networks.

    Of validation, these are those of families that train does not have.
    """
    training = Labelled.read(inputs.train_files)
    validation = Labelled.read(inputs.validation_files)
    rows = read_rows(inputs.bank_uri, _BOTH, inputs.classes, 0)
    of_train = np.isin(rows.hashes, training.hashes)
    held = rows.hashes[~of_train & stages.is_new(rows.select(of_train), rows)]
    judging = validation.select(np.isin(validation.hashes, held))
    independent = len(np.unique(rows.groups[np.isin(rows.hashes, held)]))
    several = fold_parts(inputs, network_folds(len(training) + len(validation), independent))
    if head.by_folds:  # another network ships, which learns from the images that judge
        images = Labelled.read([*inputs.train_files, *inputs.validation_files])
        whole = Part(images, images.first(0), head, _start(inputs, rows))
    else:
        start = _start(inputs, rows.select(of_train))
        whole = Part(training, judging, head, start, None if several else judging)
    if several:
        return Judging("folds", several, lambda: several[0], whole)
    if not head.by_folds:
        return Judging("validation", [whole], lambda: whole, whole)
    images, rows = _read_both_splits(inputs)
    part = _part(inputs, images, rows, np.isin(rows.hashes, held))

    def trial() -> Part:
        """Return a fold, which has many images, where the validation split has few."""
        fold = _part(inputs, images, rows, rows.folds(NETWORK_FOLDS) == 0)
        return fold if fold.best.answers.answerable.any() else part

    return Judging("validation", [part], trial, whole)


def fold_parts(inputs: Inputs, count: int) -> list[Part]:
    """Divide the images of train and validation into folds, and train a head for each of them.

    Images of one group are in one fold. There are no folds if there are too few independent images,
    or if each class is in one fold.
    """
    if not count:
        return []
    images, rows = _read_both_splits(inputs)
    if len(np.unique(rows.groups)) < 2 * count:
        return []
    fold = rows.folds(count)
    parts = [_part(inputs, images, rows, fold == number) for number in range(count)]
    return parts if any(part.best.answers.answerable.any() for part in parts) else []


def _read_both_splits(inputs: Inputs) -> tuple[Labelled, BankRows]:
    """Read the images and the rows of train and validation."""
    images = Labelled.read([*inputs.train_files, *inputs.validation_files])
    views = inputs.settings.views.count
    return images, read_rows(inputs.bank_uri, _BOTH, inputs.classes, views)


def _part(inputs: Inputs, images: Labelled, rows: BankRows, held: Flags) -> Part:
    """Return a part whose held-out images are those of some rows, with the head of the others."""
    rest = rows.select(~held)
    judging = rows.select(held & rows.is_view_0)
    head = stages.fitted_head(HeadSolver(rest, inputs.classes, inputs.settings), judging)
    here = np.isin(images.hashes, judging.hashes)
    start = _start(inputs, rest.select(rest.is_view_0))
    return Part(images.select(~here), images.select(here), head, start)


def _start(inputs: Inputs, rows: BankRows) -> keras.Model | None:
    """Return the head from which networks are trained; None if it is the one that was judged.

    It reads the mean of the last feature map, as all networks of the search do
    (`Settings.with_one_block`). Those that read covariances were not better; see
    docs/benchmarks.md.
    """
    if not rows.sizes[1:]:
        return None
    plain = rows.first_block()
    return stages.fitted_head(HeadSolver(plain, inputs.classes, inputs.settings)).layers
