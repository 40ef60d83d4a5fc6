"""Chooses the features that a solved head reads, by heads on a sample of the training images.

A head reads the first of the kinds in `single_blocks` alone, such as the last feature
map, unless another block or all of them lower its log loss by a standard error, and sees images of
the usual size unless larger ones make it better. These cost more in every request, so that they
have to be better by more than chance; see `answers.better`. Nothing else is tried where a head
makes so few mistakes that no gain could be seen, and no larger size where a head is good enough or
the last size was not better. A quarter of the images tells first whether a larger size may be
better.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.folds import ENOUGH, FEWEST_MISTAKES, FOLDS
from imgpipe.models.head.answers import Scores, better, gains
from imgpipe.models.head.certainty import CHANCE
from imgpipe.models.head.solved_head import HeadSolver, Judgement
from imgpipe.models.settings.model import single_blocks
from imgpipe.models.settings.settings import Settings

#: With more images, only one block is stored, unless all of them are better by far: the blocks of
#: the default network take 15 kB an image instead of 2.6.
MANY_IMAGES: Final = 100_000
_FAR_BETTER: Final = 0.01  # in accuracy
#: Share of the images that tells whether a larger size may be better, and the fewest that do.
_PART: Final = 0.25
_LEAST_PART: Final = 50
#: Chance that what is only as good is taken where it costs a request nothing: a standard error.
_ONE_ERROR: Final = 0.16


class HeadInput(NamedTuple):
    """What a head reads."""

    features: str  # as the setting `model.features` names them
    image_size: int  # side in pixels of the images of which they are


@dataclass(frozen=True)
class FeatureChoice:
    """The input of the head that was chosen so far."""

    settings: Settings  # of the head
    classes: int
    images: int  # number of those of all splits, whose features are to be stored
    chosen: HeadInput
    scores: Scores | None = None  # of a head with this input; None where there are too few images
    #: All inputs with which heads were judged, and how good these are.
    tried: tuple[tuple[HeadInput, Judgement], ...] = ()

    @property
    def mistakes(self) -> int:
        """Mistakes of the head with the chosen input; none where there are too few images."""
        return 0 if self.scores is None else int((~self.scores.right).sum())

    @property
    def size_may_help(self) -> bool:
        """Whether it is worth trying the next larger size of the images.

        Larger images leave half of the mistakes or more, so that there have to be twice as many as
        show a gain. They are not tried if the size before was not better, or if the head is good
        enough: they cost as much as all that was computed before, and more in every request.
        """
        if self.scores is None or self.scores.accuracy >= ENOUGH:
            return False
        if self.mistakes < 2 * FEWEST_MISTAKES:
            return False
        return self.tried[-1][0].image_size == self.chosen.image_size


def choose_blocks(rows: BankRows, classes: int, settings: Settings, images: int) -> FeatureChoice:
    """Choose between single blocks of features and all of them.

    Args:
        rows: Rows of a sample of the training images, with all blocks of features.
        classes: Number of classes.
        settings: Settings of the head.
        images: Number of images of all splits, whose features are to be stored.
    """
    kinds = (*single_blocks(settings.largest_kind), settings.largest_kind)
    first, *others, everything = (HeadInput(kind, settings.size) for kind in kinds)
    choice = _compared(FeatureChoice(settings, classes, images, first), first, rows)
    for candidate in (*others, everything):
        if choice.mistakes < FEWEST_MISTAKES:
            break
        choice = _compared(choice, candidate, rows)
    return choice


def choose_size(choice: FeatureChoice, rows: BankRows, image_size: int) -> FeatureChoice:
    """Choose between images of the size that was chosen so far and larger ones.

    Of the larger images, a head reads the features with the lowest loss so far. These may be others
    than those that were chosen, if their gain was not beyond chance.

    Args:
        choice: What was chosen so far.
        rows: Rows of the same images at the larger size, with all blocks of features.
        image_size: Side in pixels of these larger images.
    """
    return _compared(choice, _candidate(choice, image_size), rows)


def _candidate(choice: FeatureChoice, image_size: int) -> HeadInput:
    """Return what a head would read of images of a larger size."""
    lowest, _ = min(choice.tried, key=lambda tried: float(tried[1].scores.losses.mean()))
    return lowest._replace(image_size=image_size)


def first_part(rows: BankRows) -> BankRows | None:
    """Return the part of a sample that tells whether a larger size of the images may be better.

    It has whole groups. There is none of few images, of which all are computed at once.
    """
    count = round(_PART * len(np.unique(rows.hashes)))
    return rows.some_groups(count, 2 * FOLDS) if count >= _LEAST_PART else None


def may_be_better(choice: FeatureChoice, part: BankRows, larger: BankRows, image_size: int) -> bool:
    """Return whether a larger size would be better if all images were like those of a part.

    Args:
        choice: What was chosen so far.
        part: Rows of the part at the size that was chosen so far; see `first_part`.
        larger: Rows of the same images at the larger size.
        image_size: Side in pixels of the larger images.
    """
    before = _judged(choice, choice.chosen, part)
    after = _judged(choice, _candidate(choice, image_size), larger)
    if before is None or after is None:
        return True  # too few images for folds
    # By a standard error, which is less than the choice asks for: a part must not hide a gain.
    return gains(after.scores, before.scores, _ONE_ERROR, _PART)


def _judged(choice: FeatureChoice, head_input: HeadInput, rows: BankRows) -> Judgement | None:
    """Judge a head with an input; None where there are too few images."""
    number = single_blocks(choice.settings.largest_kind).get(head_input.features)
    read = rows if number is None else rows.block(number)
    return HeadSolver(read, choice.classes, choice.settings).judge()


def _compared(choice: FeatureChoice, candidate: HeadInput, rows: BankRows) -> FeatureChoice:
    """Judge a head with another input, and choose this one if the head is better, or far better."""
    settings = choice.settings
    judgement = _judged(choice, candidate, rows)
    if judgement is None:
        return choice
    tried = (*choice.tried, (candidate, judgement))
    scores = judgement.scores
    better_choice = replace(choice, chosen=candidate, scores=scores, tried=tried)
    if choice.scores is None:
        return better_choice
    is_larger = candidate.image_size != choice.chosen.image_size
    chance = CHANCE / max(1, len(settings.larger_sizes)) if is_larger else _ONE_ERROR
    is_better = better(scores, choice.scores, chance)
    blocks = single_blocks(settings.largest_kind)
    dearer = candidate.features not in (*blocks, choice.chosen.features)
    many = choice.images > MANY_IMAGES
    if dearer and many and scores.accuracy < choice.scores.accuracy + _FAR_BETTER:
        is_better = False
    return better_choice if is_better else replace(choice, tried=tried)
