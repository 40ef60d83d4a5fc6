"""From photographs to a trained head: the bank against a forward pass in every epoch.

    python -m benchmarks.against_course

The course's way is Keras' ImageDataGenerator over folders with random rotation, shifts, shear,
zoom and flip, and `model.fit` through the frozen backbone, float32, batches of 20. Ours computes
the features of the clean and K augmented views once and trains the head on them. Same photographs,
same weights (the course's with their BatchNorms in place, as Keras' applications are; --folded
gives it ours), the same linear head with dropout, one process; ours is measured before and after
the course's, so that a machine that gets busy meanwhile shows. Both times start at the files and
include building and tracing; imports are in neither.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras._tf_keras.keras.preprocessing.image import ImageDataGenerator

from benchmarks import common
from benchmarks.common import Figure
from components.sources.splits import SplitRule
from models import backbones
from models import feature_names as names
from models.backbones import efficientnet_lite0
from models.bank import BankRows
from models.extractor import FeatureExtractor
from models.fitting import fit_head
from pipeline.config import Config

GOAL = 12
COURSE_BATCH, COURSE_RATE = 20, 1e-4  # of its transfer-learning notebook


@dataclass(frozen=True)
class Result:
    """Time from files to trained head, and what the head is worth on validation.

    `cpu` is processor seconds of all threads: unlike `seconds` they hardly depend on what else
    the machine does, but they miss what one way leaves idle.
    """

    seconds: float
    cpu: float
    accuracy: float
    note: str


def main() -> None:
    """Measure both ways and print the ratio."""
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=int, help="photographs to train on (default: all)")
    parser.add_argument("--epochs", type=int, default=20, help="of the course's way")
    parser.add_argument(
        "--measure", type=int, metavar="N", help="run only N of the epochs and multiply the time"
    )
    parser.add_argument(
        "--folded", action="store_true", help="give the course our backbone without BatchNorm"
    )
    parser.add_argument("--precision", default="auto", help="of the bank's forward pass")
    options = parser.parse_args()
    cats = common.data_set(options.data, "cats_dogs")
    print(f"machine: {common.machine()}")
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
    with common.workplace(options.work) as work:
        train, validation = _divide(cats, options.images, work)
        before = _said("ours", ours, train, validation, options)
        images = len(common.sample(train))
        course = _said("course", the_course, train, validation, options)
        after = _said("ours again", ours, train, validation, options)
    common.finish(_figures(before, course, after, options, images), options.json)


def _divide(cats: Path, count: int | None, work: Path) -> tuple[Path, Path]:
    """Folders of training and validation photographs, by the product's own split rule."""
    split = Config().split
    rule = SplitRule(split.seed, split.validation, split.test)
    parts: dict[str, list[Path]] = {name: [] for name in names.SPLITS}
    for path in common.sample(cats):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        parts[rule.assign(digest, None)].append(path)
    return (
        common.copy(common.some(parts[names.TRAIN], count), work / "train"),
        common.copy(parts[names.VALIDATION], work / "validation"),
    )


def _said(
    name: str,
    way: Callable[[Path, Path, argparse.Namespace], Result],
    train: Path,
    validation: Path,
    options: argparse.Namespace,
) -> Result:
    result = way(train, validation, options)
    print(
        f"{name}: {result.seconds:.1f} s ({result.cpu:.0f} of processors), validation "
        f"{result.accuracy:.4f}; {result.note}; load {os.getloadavg()[0]:.2f}",
        flush=True,
    )
    return result


# --- ours --------------------------------------------------------------------------------------
def ours(train: Path, validation: Path, options: argparse.Namespace) -> Result:
    """Hash, decode, features of every view once, head on the features; default settings."""
    config = Config()
    settings = config.settings
    started, cpu = time.perf_counter(), time.process_time()
    extractor = FeatureExtractor(
        config.model.backbone,
        settings.size,
        options.precision,
        config.views.spec,
    )
    rows = {
        split: _rows(extractor, folder, views)
        for split, folder, views in (
            (names.TRAIN, train, range(config.views.count + 1)),
            (names.VALIDATION, validation, range(1)),
        )
    }
    bank = time.perf_counter() - started
    fit = fit_head(rows[names.TRAIN], rows[names.VALIDATION], _classes(train), settings)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    passes = sum(map(len, rows.values()))
    note = (
        f"bank {bank:.1f} s, {passes} forward passes in {extractor.precision}, K = "
        f"{config.views.count}; head {fit.seconds:.1f} s, {len(fit.epochs)} epochs"
    )
    return Result(seconds, cpu, fit.epochs[fit.best_epoch - 1]["val_accuracy"], note)


def _classes(folder: Path) -> int:
    return sum(path.is_dir() for path in folder.iterdir())


def _rows(extractor: FeatureExtractor, folder: Path, views: range) -> BankRows:
    """What FeatureBank would store of a folder, in the order in which it would be read."""
    paths = common.sample(folder)
    vocabulary = sorted({path.parent.name for path in paths})
    images = [path.read_bytes() for path in paths]
    hashes = [hashlib.sha256(image).hexdigest() for image in images]
    vectors = extractor.extract(images, hashes, [views] * len(images))
    order = np.argsort(hashes)
    return BankRows(
        np.concatenate([vectors[i] for i in order]),
        np.repeat([vocabulary.index(paths[i].parent.name) for i in order], len(views)),
        np.tile(np.array(views), len(order)),
        np.repeat(np.array(hashes, "S")[order], len(views)),
    )


# --- the course's ------------------------------------------------------------------------------
def the_course(train: Path, validation: Path, options: argparse.Namespace) -> Result:
    """Augment and run the whole network on every photograph in every epoch."""
    epochs = min(options.measure or options.epochs, options.epochs)
    keras.utils.set_random_seed(0)
    started, cpu = time.perf_counter(), time.process_time()
    model = _whole_network(Config().model.dropout, options.folded)
    augmented = ImageDataGenerator(
        rotation_range=40,
        width_shift_range=0.2,
        height_shift_range=0.2,
        shear_range=0.2,
        zoom_range=0.2,
        horizontal_flip=True,
        fill_mode="nearest",
    )
    side = Config().settings.size
    flow = {"target_size": (side, side), "batch_size": COURSE_BATCH, "class_mode": "binary"}
    ready, cpu_ready = time.perf_counter(), time.process_time()
    history = model.fit(
        augmented.flow_from_directory(str(train), **flow),
        validation_data=ImageDataGenerator().flow_from_directory(str(validation), **flow),
        epochs=epochs,
        verbose=0,
    )
    ended, cpu_ended = time.perf_counter(), time.process_time()
    times = options.epochs / epochs
    seconds = ready - started + (ended - ready) * times
    cpu = cpu_ready - cpu + (cpu_ended - cpu_ready) * times
    note = f"{epochs} epochs of {(ended - ready) / epochs:.1f} s, float32"
    if epochs < options.epochs:
        note += f", multiplied to {options.epochs} epochs"
    return Result(seconds, cpu, history.history["val_accuracy"][-1], note)


def _whole_network(dropout: float, folded: bool) -> keras.Model:
    """The frozen backbone, normalisation inside, under a sigmoid unit; compiled."""
    pixels = keras.Input((Config().settings.size,) * 2 + (3,), dtype="float32")
    body = backbones.get("efficientnet_lite0").build if folded else _with_batch_normalisation
    features = keras.layers.GlobalAveragePooling2D()(body(pixels))
    features = keras.layers.Dropout(dropout)(features)
    model = keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid")(features))
    model.compile(
        optimizer=keras.optimizers.RMSprop(COURSE_RATE),
        loss="binary_crossentropy",
        metrics=["accuracy"],
    )
    return model


def _with_batch_normalisation(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """The same network as it is trained and as Keras' own applications are run.

    Every convolution is followed by a BatchNorm; its scale is 1 because the weights at hand have
    it folded in, which changes neither the answer nor the work.
    """
    layers = keras.layers
    x = entry = layers.Rescaling(1 / 128, -127 / 128)(pixels)
    block = None
    weights = efficientnet_lite0.read_weights()
    for unit in efficientnet_lite0.units():
        if unit.block != block:
            entry, block = x, unit.block
        shared = {"strides": unit.stride, "padding": "same", "use_bias": False, "trainable": False}
        convolution = (
            layers.DepthwiseConv2D(unit.size, **shared)
            if unit.depthwise
            else layers.Conv2D(unit.filters, unit.size, **shared)
        )
        x = convolution(x)
        kernel, bias = efficientnet_lite0.folded(weights, unit)
        convolution.set_weights([kernel])
        norm = layers.BatchNormalization(epsilon=1e-3, trainable=False)
        x = norm(x)
        ones = np.ones_like(bias)
        norm.set_weights([ones, bias, 0 * ones, ones - np.float32(1e-3)])
        if unit.active:
            x = layers.ReLU(6.0)(x)
        if unit.joins:
            x = layers.Add()([x, entry])
    return x


# --- figures -----------------------------------------------------------------------------------
def _figures(
    before: Result, course: Result, after: Result, options: argparse.Namespace, images: int
) -> list[Figure]:
    seconds = (before.seconds + after.seconds) / 2
    ratios = sorted(course.seconds / run.seconds for run in (before, after))
    measured = options.measure or options.epochs
    part = f", {measured} measured and multiplied" if measured < options.epochs else ""
    return [
        Figure(
            f"photographs to trained head, {images:,} photographs: the course's way / ours",
            f"{course.seconds / seconds:.1f} × ({ratios[0]:.1f} to {ratios[1]:.1f})",
            f"≥ {GOAL} ×",
        ),
        Figure(
            "… the same in processor seconds",
            f"{2 * course.cpu / (before.cpu + after.cpu):.1f} × ({course.cpu:.0f} s / "
            f"{(before.cpu + after.cpu) / 2:.0f} s)",
        ),
        Figure(
            "… ours", f"{seconds:.1f} s ({before.seconds:.1f} before, {after.seconds:.1f} after)"
        ),
        Figure(
            "… the course's way" + (", with our folded backbone" if options.folded else ""),
            f"{course.seconds:.1f} s, {options.epochs} epochs{part}",
        ),
        Figure(
            "… validation accuracy",
            f"ours {before.accuracy:.4f}, the course's way {course.accuracy:.4f}"
            + (f" after {measured} epochs" if part else ""),
        ),
    ]


if __name__ == "__main__":
    main()
