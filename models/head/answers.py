"""Answers of networks for images they have not seen: which are better, and how they are stored.

Every decision between networks is made here: what the head reads, and whether the network of the
search replaces the head.

Where folds judge, the model learns from all of their images. What it answers for one of them says
nothing about new images, so the answers of the folds lie in a file beside the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from imgpipe.models import names
from imgpipe.models.arrays import Flags, Floats, Integers, Names
from imgpipe.models.features.rows import ColumnTable
from imgpipe.models.files import stored_arrays
from imgpipe.models.head.calibration import Calibration, calibrated_losses, softmax
from imgpipe.models.head.certainty import CHANCE, standard_error

#: Largest loss of one image, so that a single image does not decide the comparison.
_MOST_LOSS: Final = -math.log(1e-12)


@dataclass(frozen=True)
class Scores(ColumnTable):
    """How well each of n images was answered.

    Attributes:
        losses: Loss of each image, [n].
        right: Whether its label was predicted, bool [n].
        groups: Its group, [n]; None if each image is a group by itself.
    """

    losses: Floats
    right: Flags
    groups: Names | None = None

    @property
    def accuracy(self) -> float:
        """Share of images that were answered correctly."""
        return float(self.right.mean())


@dataclass(frozen=True)
class Answers(ColumnTable):
    """Logits of a network for held-out images.

    Attributes:
        logits: Logits, float32 [n, C].
        labels: Label indices of the images, int64 [n].
        groups: Name of the group of each image, [n]; None if each image is a group by itself.
        learnable: Whether the network was trained on images of the class of each image, bool [n].
            All images of a class may be of one group, and so in one fold. None if there are such
            images for all classes.
        hashes: Content hash of each image, [n]; None where nobody asks for it.
        trained_on: Number of images that the network was trained on. Joined answers of several
            networks have that of the first one.
    """

    logits: Floats
    labels: Integers
    groups: Names | None = None
    learnable: Flags | None = None
    hashes: Names | None = None
    trained_on: int = 0

    @property
    def answerable(self) -> Flags:
        """Whether the network could learn the class of each image, bool [n]."""
        return np.ones(len(self.labels), np.bool_) if self.learnable is None else self.learnable

    @property
    def right(self) -> Flags:
        """Whether each image was answered correctly, bool [n]."""
        return np.asarray(self.logits.argmax(axis=1) == self.labels) & self.answerable

    @property
    def accuracy(self) -> float | None:
        """Share of images that were answered correctly; None where no image judges."""
        return float(self.right.mean()) if len(self) else None

    def scores(self) -> Scores:
        """Return the scores with the most probable temperature.

        Each network is calibrated before it is served, so over-confidence must not decide. Images
        of classes that a network could not learn count as wrong. Their loss is 0, so that they do
        not decide between networks.
        """
        answerable = self.answerable
        losses = np.zeros(len(answerable), np.float32)
        learned = calibrated_losses(self.logits[answerable], self.labels[answerable])
        losses[answerable] = np.minimum(learned, _MOST_LOSS)
        return Scores(losses, self.right, self.groups)


def better(new: Scores, old: Scores, chance: float = CHANCE) -> bool:
    """Return whether a network is better than another one, by more than chance.

    Its log loss has to be lower, and its accuracy must not be: the loss sees a difference with far
    fewer images. Both networks answer the same images, so the differences are paired, and those of
    one group count together.

    Args:
        new: Scores of the network.
        old: Scores of the other network for the same images in the same order.
        chance: How probable it may be that a network that is as good passes for a better one. Where
            several are compared with the other one, it is divided among them.
    """
    if int(new.right.sum()) < int(old.right.sum()):
        return False
    return gains(new, old, chance)


def gains(new: Scores, old: Scores, chance: float = CHANCE, share: float = 1.0) -> bool:
    """Return whether the log loss of a network is lower than that of another one.

    Args:
        new: Scores of the network.
        old: Scores of the other network for the same images in the same order.
        chance: How probable it may be that a network that is as good passes for a better one.
        share: Share of the images that have been answered; the others are taken to be alike.
    """
    from scipy.stats import t

    differences = old.losses.astype(np.float64) - new.losses
    groups = len(differences) if new.groups is None else len(np.unique(new.groups))
    errors = float(t.ppf(1 - chance, groups - 1))  # NaN of a single group
    error = standard_error(differences, new.groups) * math.sqrt(share)
    return float(differences.mean()) > errors * error


@dataclass(frozen=True)
class OutOfFold(ColumnTable):
    """The answers of the folds as the served model would give them.

    Attributes:
        hashes: Content hash of each image, bytes [n].
        labels: Label index of each image, int64 [n].
        probabilities: Calibrated probabilities, float32 [n, C].
        families: Name of the family of each image, which stays in one fold, bytes [n].
    """

    hashes: Names
    labels: Integers
    probabilities: Floats
    families: Names

    @classmethod
    def of(cls, answers: Answers, calibration: Calibration) -> OutOfFold:
        """Return calibrated answers.

        Args:
            answers: Answers of the networks of all folds, with the hashes of the images and the
                groups that stay in one fold.
            calibration: Calibration of the model that is served.
        """
        probabilities = softmax(answers.logits / calibration["temperature"])
        # What a network could not learn is not predicted by chance either; see `Answers.right`.
        places = np.flatnonzero(~answers.answerable)
        probabilities[places, answers.labels[places]] = 0
        hashes = np.asarray(answers.hashes)
        families = hashes if answers.groups is None else answers.groups
        return cls(hashes, answers.labels, probabilities, families)

    @classmethod
    def read(cls, directory: str) -> OutOfFold | None:
        """Read the answers beside a SavedModel; None if it has not learned from such images.

        Raises:
            ResourceError: The file is damaged.
        """
        holds = (
            "the answers for the images that the model has learned from. Run again with --from "
            "ImageTrainer"
        )
        stored = stored_arrays.read(directory, names.OUT_OF_FOLD_FILE, holds)
        return None if stored is None else cls(**stored)

    def write(self, directory: str) -> None:
        """Write the answers beside a SavedModel."""
        stored_arrays.write(directory, names.OUT_OF_FOLD_FILE, self.columns)
