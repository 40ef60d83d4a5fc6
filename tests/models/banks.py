"""Helpers of the tests of `models/` that read feature banks."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.components.common.storage import records
from imgpipe.models import names
from imgpipe.models.features.bank import BANK_FILE, BankFacts, BankRows
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.network.classifier import build_head
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training import datasets
from imgpipe.models.training.history import Epoch
from imgpipe.models.training.training_loop import Fit, Training, solve_head
from tests.network_settings import network_settings

DIM = 16


def write_records(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows of values as a TFRecord file of tf.Examples, and return its path."""
    with records.ShardWriter({"all": str(path)}) as writer:
        for row in rows:
            writer.write("all", records.make(row))
    return str(path)


def write_examples(uri: str | Path, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Write values of Examples, each with its split, as an artifact; return its URI."""
    paths = {split: records.shard_path(str(uri), split, 0, 1) for split in names.SPLITS}
    with records.ShardWriter(paths) as writer:
        for split, values in rows:
            writer.write(split, records.make(values))
    return str(uri)


def bank_row(digest: str | bytes, label: int, features: np.ndarray, view: int = 0) -> dict:
    return {
        names.IMAGE_HASH: digest,
        names.LABEL_INDEX: label,
        names.VIEW: view,
        names.FEATURES: features.astype("<f2").tobytes(),
    }


def write_bank(
    directory: Path,
    classes: int = 3,
    dim: int = DIM,
    images: int = 20,
    views: int = 3,
    spread: float = 0.5,
    shuffle: int | None = None,
    sizes: Mapping[str, int] | None = None,
) -> str:
    """Write a bank whose classes are clouds of points, and return its path.

    A split has `images` images of each class, or as many as `sizes` says. `spread` is the standard
    deviation of a class, and `shuffle` the seed of another order of the Examples.
    """
    random = np.random.default_rng(7)
    centres = random.normal(size=(classes, dim))
    rows = []
    for first, split in enumerate(names.SPLITS):
        for image in range((sizes or {}).get(split, images) * classes):
            digest = b"%064x" % (image * 7919 % 10007 + 10007 * first)
            for view in range(views if split == names.TRAIN else 1):
                point = centres[image % classes] + spread * random.normal(size=dim)
                rows.append((split, bank_row(digest, image % classes, point, view)))
    if shuffle is not None:
        np.random.default_rng(shuffle).shuffle(rows)
    write_facts(write_examples(directory, rows), [dim])
    return str(directory)


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
    settings: Settings,
    log_dir: Path | None = None,
) -> Fit:
    """Solve a head, or train it by epochs, as a run does."""
    if settings.solved:
        return solve_head(HeadSolver(train, classes, settings), validation)
    build = functools.partial(build_head, train.features.shape[1], classes, settings)
    rows = (datasets.Rows(part.features, part.labels) for part in (train, validation))
    return Training(build, classes, settings).fit(*rows, settings.course.epochs, log_dir=log_dir)


def covariance_settings(side: int) -> Settings:
    """Return the settings of a small frozen network whose head reads covariances of three maps."""
    given = {"backbone": "conv_8_12_16", "weights": "none", "freeze": "all"}
    return network_settings(**given, features="covariance", image_size=side)


def rows_of(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, **more: Any
) -> BankRows:
    """Return the rows of images themselves, whose hashes are numbers in their order."""
    hashes = np.array([b"%064x" % number for number in range(len(labels))])
    groups = hashes if groups is None else groups
    views = np.zeros(len(labels), np.int64)
    return BankRows(features.astype(np.float16), labels, views, hashes, groups, **more)


def clouds(count: int = 300, dim: int = 24, apart: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Return features [count, dim] of three classes whose centres lie apart, and labels [count]."""
    random = np.random.default_rng(0)
    centres = random.normal(0, apart, (3, dim))
    labels = random.integers(0, 3, count)
    return random.normal(0, 1, (count, dim)) + centres[labels], labels


def clean(rows: BankRows) -> BankRows:
    return rows.select(rows.is_view_0)


def best(fit: Fit) -> Epoch:
    """Return the record of the epoch whose weights a trained model has."""
    return fit.stage["epochs"][fit.stage["best_epoch"] - 1]
