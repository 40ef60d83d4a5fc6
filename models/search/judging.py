"""The images that judge the networks of a search, and the heads with which they are compared.

They are those of the validation split, or of few images all, in folds: the network of a fold is
trained on the images of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from imgpipe.models.features.bank import BankRows, read_rows
from imgpipe.models.features.examples import Labelled
from imgpipe.models.features.folds import FOLDS, NETWORK_FOLDS, network_folds
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.names import feature_names as names
from imgpipe.models.names.feature_names import Flags
from imgpipe.models.training import stages
from imgpipe.models.training.history import JudgedBy
from imgpipe.models.training.stages import Inputs, Part, Trained

if TYPE_CHECKING:
    import keras

_BOTH: Final[tuple[str, ...]] = (names.TRAIN, names.VALIDATION)


class Judging(NamedTuple):
    """Which images judge networks, and which ones a network is trained on."""

    by: JudgedBy  # what judges, as in the rows of the search
    parts: list[Part]  # those on which networks are judged
    #: Makes the part that tells after a third of the work whether a network may be better.
    trial: Callable[[], Part]
    whole: Part  # the part of the network that ships, which has the images of the head


def images_of(parts: Iterable[Part]) -> int:
    """Return how many images the networks of some parts are trained on."""
    return sum(len(part.training) for part in parts)


def judging_parts(inputs: Inputs, head: Trained) -> Judging:
    """Decide which images judge networks."""
    training = Labelled.read(inputs.train_files)
    held_out = Labelled.read(inputs.validation_files)
    images = training
    splits = _BOTH[:1]
    if head.by_folds:
        images = Labelled.read([*inputs.train_files, *inputs.validation_files])
        splits = _BOTH
    rows = read_rows(inputs.bank_uri, splits, inputs.classes, 0)
    whole = Part(images, held_out, head, _start(inputs, rows))
    several = fold_parts(inputs, network_folds(len(training), len(held_out)))
    if several:
        return Judging("folds", several, lambda: several[0], whole)
    if not head.by_folds:
        return Judging("validation", [whole], lambda: whole, whole)
    images, rows = _read_both_splits(inputs, FOLDS)
    judging = _part(inputs, images, rows, np.isin(rows.hashes, held_out.hashes))

    def trial() -> Part:
        """Return a fold, which has many images, where the validation split has few."""
        fold = _part(inputs, images, rows, rows.folds(NETWORK_FOLDS) == 0)
        return fold if fold.best.answers.answerable.any() else judging

    return Judging("validation", [judging], trial, whole)


def fold_parts(inputs: Inputs, count: int) -> list[Part]:
    """Divide the images of train and validation into folds, and train a head for each of them.

    Images of one group are in one fold. There are no folds if there are too few independent images,
    or if each class is in one fold.
    """
    if not count:
        return []
    images, rows = _read_both_splits(inputs, count)
    if len(np.unique(rows.groups)) < 2 * count:
        return []
    fold = rows.folds(count)
    parts = [_part(inputs, images, rows, fold == number) for number in range(count)]
    return parts if any(part.best.answers.answerable.any() for part in parts) else []


def _read_both_splits(inputs: Inputs, count: int) -> tuple[Labelled, BankRows]:
    """Read the images and the rows of train and validation, with groups for a number of folds."""
    images = Labelled.read([*inputs.train_files, *inputs.validation_files])
    views = inputs.settings.views.count
    return images, read_rows(inputs.bank_uri, _BOTH, inputs.classes, views, count)


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
    (`ModelSettings.with_one_block`). Those that read covariances were not better; see
    docs/benchmarks.md.
    """
    if not rows.sizes[1:]:
        return None
    plain = rows.first_block()
    return stages.fitted_head(HeadSolver(plain, inputs.classes, inputs.settings), plain).layers
