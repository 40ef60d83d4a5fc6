"""Helpers of the tests of `models/` that read feature banks."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.models.features.bank import BANK_FILE, BankFacts, BankRows
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.network.classifier import build_head
from imgpipe.models.settings.model import ModelSettings
from imgpipe.models.training import datasets
from imgpipe.models.training.history import Epoch
from imgpipe.models.training.training_loop import Fit, Training, solve_head


def write_facts(
    folder: str | Path,
    sizes: Sequence[int],
    note: str = "",
    features: str = "average",
    image_size: int = 224,
    validation_drawn: bool = True,
) -> None:
    """Write the description of a bank as FeatureBank does, with features of these sizes."""
    facts: BankFacts = {
        "sizes": list(sizes),
        "note": note,
        "features": features,
        "image_size": image_size,
        "axes": "",
        "precision": "float32",
        "validation_drawn": validation_drawn,
        "decision": None,
        "forward_passes": 0,
        "reused": 0,
    }
    Path(folder, BANK_FILE).write_text(json.dumps(facts))


def fit_head(
    train: BankRows,
    validation: BankRows,
    classes: int,
    settings: ModelSettings,
    log_dir: Path | None = None,
) -> Fit:
    """Solve a head, or train it by epochs, as a run does."""
    if settings.solved:
        return solve_head(HeadSolver(train, classes, settings), validation)
    build = functools.partial(build_head, train.features.shape[1], classes, settings)
    rows = (datasets.Rows(part.features, part.labels) for part in (train, validation))
    return Training(build, classes, settings).fit(*rows, settings.epochs, log_dir=log_dir)


def rows_of(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, **more: Any
) -> BankRows:
    """Return the rows of images themselves, whose hashes are numbers in their order."""
    hashes = np.array([b"%064x" % number for number in range(len(labels))])
    groups = hashes if groups is None else groups
    views = np.zeros(len(labels), np.int64)
    return BankRows(features.astype(np.float16), labels, views, hashes, groups, **more)


def clean(rows: BankRows) -> BankRows:
    """Return the rows of the images themselves."""
    return rows.select(rows.is_view_0)


def best(fit: Fit) -> Epoch:
    """Return the record of the epoch whose weights a trained model has."""
    return fit.stage["epochs"][fit.stage["best_epoch"] - 1]
