"""Parts of the images with which the search trains its networks and judges them.

Where the validation split is large, there is one part: networks are trained on split train and
judged on validation. A gain of one point cannot be seen on a hundred images, though. Where
validation has few, all images of train and validation judge, in folds: each fold is a part, whose
networks are trained on the images of the other folds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from imgpipe.models import feature_names as names
from imgpipe.models.examples import Labelled
from imgpipe.models.features.bank import read_rows
from imgpipe.models.training.stages import Inputs, Trained, fitted_head

#: Number of folds. A network is trained once for each of them, so there are fewer than for heads,
#: which are solved within a second.
FOLDS: Final = 3


@dataclass(frozen=True)
class Part:
    """Images to train on, images to judge on, and the best network so far.

    Attributes:
        training: Images that networks are trained on.
        held_out: Images that networks are judged on.
        best: The best network so far, which was trained on `training` alone, with its answers for
            `held_out`.
    """

    training: Labelled
    held_out: Labelled
    best: Trained


def splits(inputs: Inputs, head: Trained) -> Part:
    """Return the splits train and validation as a part.

    Args:
        inputs: Inputs of the training.
        head: The head that was trained on split train.
    """
    train, validation = map(Labelled.read, (inputs.train_files, inputs.validation_files))
    answers = replace(head.answers, known=np.isin(validation.labels, train.labels))
    return Part(train, validation, replace(head, answers=answers))


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
    images = Labelled.read([*inputs.train_files, *inputs.validation_files])
    rows = read_rows(inputs.bank_uri, both, inputs.classes, settings.views.count, FOLDS)
    if len(np.unique(rows.groups)) < 2 * FOLDS:
        return []
    fold = rows.folds(FOLDS)
    parts = []
    for number in range(FOLDS):
        rest, held = rows.select(fold != number), rows.select((fold == number) & rows.clean)
        head = fitted_head(rest, held, held, inputs.classes, settings)
        here = np.isin(images.hashes, held.hashes)
        parts.append(Part(images.select(~here), images.select(here), head))
    return parts if any(part.best.answers.answerable.any() for part in parts) else []
