"""Parts of the images with which the search trains its networks and judges them.

Where the validation split is large, there is one part: networks are trained on split train and
judged on validation. A gain of one point cannot be seen on a hundred images, though. Where
validation has few, all images of train and validation judge, in folds: each fold is a part, whose
networks are trained on the images of the other folds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.features.bank import BankRows, open_split
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import assign, of_rows
from imgpipe.models.features.hash_column import distinct
from imgpipe.models.head.calibration import calibrated_losses
from imgpipe.models.head.solved_head import Flags, Groups, Judgement
from imgpipe.models.search.ways import Way
from imgpipe.models.training import datasets, stages
from imgpipe.models.training.cross_validation import CrossValidation, Fold, unlearned
from imgpipe.models.training.fresh_activations import LabelledImages, fresh_activations
from imgpipe.models.training.stages import Inputs, Trained
from imgpipe.models.training.training_loop import fit, fit_head

#: Largest loss of one image, so that a single image does not decide the comparison.
_MOST_LOSS: Final = -math.log(1e-12)
#: Number of folds. A network is trained once for each of them, so there are fewer than for heads,
#: which are solved within a second.
FOLDS: Final = 3


@dataclass(frozen=True)
class Part:
    """Images to train on, images to judge on, and the best network so far.

    Attributes:
        training: Images that networks are trained on.
        held_out: Images that networks are judged on.
        best: The best network so far, which was trained on `training` alone, with its logits of
            `held_out`.
        groups: Number of the group of each held-out image, [n]; None if it is not known.
    """

    training: LabelledImages
    held_out: LabelledImages
    best: Trained
    groups: Groups | None

    @property
    def known(self) -> Flags:
        """Whether there are training images of the class of each held-out image, bool [n].

        All images of a class may be of one group, and so in one fold. No network can then be
        trained on the class and judged on it.
        """
        return np.isin(self.held_out.labels, self.training.labels)


def splits(inputs: Inputs, head: Trained) -> Part:
    """Return the splits train and validation as a part.

    Args:
        inputs: Inputs of the training.
        head: The head that was trained on split train.
    """
    train, validation = map(LabelledImages.of, (inputs.train_files, inputs.validation_files))
    return Part(train, validation, head, head.groups)


def folds(inputs: Inputs) -> list[Part]:
    """Divide the images of train and validation into folds, and train a head for each of them.

    Images of one group are in one fold.

    Args:
        inputs: Inputs of the training; the bank has features.

    Returns:
        A part for each fold; none if there are too few independent images, or if each class is in
        one fold.
    """
    settings, both = inputs.settings, (names.TRAIN, names.VALIDATION)
    images = LabelledImages.of([*inputs.train_files, *inputs.validation_files])
    views = settings.views.count
    with open_split(inputs.bank_uri, both, inputs.classes, views, FOLDS) as rows:
        clean = rows.views == 0
        if distinct(rows.groups[clean]) < 2 * FOLDS:
            return []
        fold = of_rows(rows.groups, assign(rows.labels[clean], rows.groups[clean], FOLDS))
        parts = []
        for number in range(FOLDS):
            held_out = rows.select((fold == number) & clean)
            here = np.isin(images.hashes, np.asarray(held_out.hashes))
            head = _head(inputs, rows.select(fold != number), held_out)
            groups = held_out.groups.numbers
            parts.append(Part(images.select(~here), images.select(here), head, groups))
    return parts if any(part.known.any() for part in parts) else []


def _head(inputs: Inputs, training: BankRows, held_out: BankRows) -> Trained:
    """Trains the head of a fold as that of the run."""
    found = fit_head(training, held_out, inputs.classes, inputs.settings, learning_curve=False)
    rows = datasets.Vectors(held_out.features, held_out.labels)
    return stages.judged(found, rows, stages.HEAD)


def extractor(inputs: Inputs, way: Way) -> FeatureExtractor:
    """Return the extractor of the activations at the cut of a way.

    Args:
        inputs: Inputs of the training.
        way: How the network is trained.
    """
    return stages.extractor_at(inputs, way.settings(inputs.settings), way.cut)


def fitted(
    inputs: Inputs,
    part: Part,
    way: Way,
    tapped: FeatureExtractor,
    over: Callable[[], bool],
    log_dir: Path | None = None,
    last_epoch: bool = False,
) -> Trained:
    """Trains a network of a part, from its best network so far on.

    Args:
        inputs: Inputs of the training.
        part: The part.
        way: How the network is trained.
        tapped: Extractor of the activations at the cut; see `extractor`.
        over: Function that returns whether the training has to end.
        log_dir: Folder for TensorBoard's event files; None writes none.
        last_epoch: Whether to keep the weights of the last epoch, and not those of the best one on
            the held-out images. If these judge the network afterwards, its result would otherwise
            be too good, and a few images cannot choose an epoch.

    Returns:
        The network, with its logits of the held-out images.

    Raises:
        OutOfTime: `over` returned true before there was a network.
    """
    settings = way.settings(inputs.settings).second_stage()
    with (
        fresh_activations(part.training, tapped, way.views, over) as training,
        fresh_activations(part.held_out, tapped, 0, over) as held_out,
    ):
        losses = itertools.count(0, -1)  # each epoch seems better than the one before
        found = fit(
            lambda: stages.above_cut(inputs.classes, settings, way.cut, part.best.layers),
            training,
            held_out,
            inputs.classes,
            settings,
            log_dir,
            over=over,
            judge=(lambda _: next(losses)) if last_epoch else stages.calibrated_loss_on(held_out),
        )
        return stages.judged(found, held_out, f"layers above {way.cut}")


def cross_validation(folds: Sequence[Part]) -> CrossValidation:
    """Return the results of the best networks of all folds.

    Args:
        folds: The parts of the folds.
    """
    results = [
        Fold(
            images=len(part.held_out.labels),
            correct=int((part.known & part.best.right).sum()),
            trained_on=len(part.training.labels),
            epochs=len(part.best.history["epochs"]),
            best_epoch=part.best.history["best_epoch"],
            seconds=part.best.history["seconds"],
        )
        for part in folds
    ]
    labels = [part.held_out.labels for part in folds]
    fold = np.repeat(np.arange(len(folds)), [len(some) for some in labels])
    groups = sum(len(np.unique(part.groups)) for part in folds if part.groups is not None)
    return CrossValidation(tuple(results), groups, unlearned(np.concatenate(labels), fold))


def answers(
    networks: Sequence[tuple[Part, Trained]],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the logits [n, C] of some networks for held-out images, and the labels [n].

    Images of classes that a network could not learn are left out.

    Args:
        networks: Parts, each with a network whose logits are those of the part's held-out images.
    """
    logits = np.concatenate([trained.logits[part.known] for part, trained in networks])
    return logits, np.concatenate([trained.labels[part.known] for part, trained in networks])


def judgement(networks: Sequence[tuple[Part, Trained]]) -> Judgement:
    """Return the result of some networks on held-out images.

    Images of classes that a network could not learn count as wrong. Their loss is 0, so that they
    do not decide between networks.

    Args:
        networks: Parts, each with a network; see `answers`.
    """
    known = np.concatenate([part.known for part, _ in networks])
    right = known & np.concatenate([trained.right for _, trained in networks])
    # One temperature for all parts. Each network is calibrated before it is served, so
    # over-confidence must not decide here.
    losses = np.zeros(len(known), np.float32)
    losses[known] = np.minimum(calibrated_losses(*answers(networks)), _MOST_LOSS)
    groups = [part.groups for part, _ in networks if part.groups is not None]
    together = np.concatenate(groups) if len(groups) == len(networks) else None
    return Judgement(losses, right, together)
