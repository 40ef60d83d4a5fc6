"""Time from photographs to a trained head: the feature bank against a pass in every epoch.

    python -m benchmarks.against_course [--preset cats_vs_dogs_inception]

Three ways train the same head on the same photographs and weights, in one process:

- The course's: Keras' ImageDataGenerator with random rotation, shifts, shear, zoom and flip, and
  `model.fit` through the frozen backbone in float32, in batches of 20.
- Plain Keras, as its guide to transfer learning: `image_dataset_from_directory`, augmenting layers
  and the same frozen backbone, in batches of 32.
- Ours: the components of `imgpipe run --minutes 0` from ImageExampleGen to ImageTrainer, which
  also check every file.

Ours is measured before and after the others, to show whether the machine became busy meanwhile.
Times begin with the files and include building and tracing, but not the imports. The others use the
default backbone with its BatchNorm layers, as keras.applications has them, unless `--folded` is
given. A preset sets backbone, cut, size, head and number of steps. Its weights are random, so that
only the times mean something.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras._tf_keras.keras.preprocessing.image import ImageDataGenerator

from benchmarks import common
from benchmarks.common import Figure, Trained
from imgpipe.components.common.splits import SplitRule
from imgpipe.models import backbones, names
from imgpipe.models.backbones.architectures import efficientnet_lite, keras_applications
from imgpipe.models.network.classifier import read
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.configuration.given_settings import assigned, configuration

GOALS = {"the course's way": 40, "plain Keras": 30}
COURSE_BATCH, COURSE_RATE = 20, 1e-4  # as in its notebook on transfer learning
PLAIN_BATCH, PLAIN_RATE = 32, 1e-3  # Keras' defaults
_NO_SEARCH = "train.minutes=0"


@dataclass(frozen=True)
class Task:
    """The input of each way."""

    train: Path
    validation: Path
    settings: Settings
    backbone: backbones.Backbone
    given: list[str]
    options: argparse.Namespace

    @property
    def epochs(self) -> float:
        """Number of passes of the others over the photographs, from the preset or the option."""
        course = self.settings.course
        if not course.steps_per_epoch:
            return float(self.options.epochs)
        images = len(common.sample(self.train))
        return course.epochs * course.steps_per_epoch * course.batch_size / images


def main() -> None:
    """Measure the ways and print the ratios."""
    parser = common.parser(__doc__)
    parser.add_argument("--preset", help="preset of backbone and head (default: none)")
    parser.add_argument("--images", type=int, help="photographs to train on (default: all)")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the other ways")
    parser.add_argument("--measure", type=int, help="run only some epochs and multiply the time")
    parser.add_argument("--folded", action="store_true", help="others: backbone without BatchNorm")
    options = parser.parse_args()
    cats = common.data_set(options.data, "cats_dogs")
    print(f"machine: {common.machine()}")
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
    with common.workplace(options.work) as work:
        train, validation = _divide(cats, options.images, work)
        config, given = _configuration(options.preset, work)
        task = Task(train, validation, config, config.backbone_spec(), given, options)
        before = _measured("ours", ours, task)
        images = len(common.sample(train))
        course = _measured("the course's way", the_course, task)
        plain = _measured("plain Keras", plain_keras, task)
        after = _measured("ours again", ours, task)
    others = {"the course's way": course, "plain Keras": plain}
    figures = _figures(before, others, after, task)
    print(f"{images:,} photographs, {config.model.backbone}")
    common.finish(figures)


def _configuration(preset: str | None, work: Path) -> tuple[Settings, list[str]]:
    """Return the configuration of the preset with random weights, or the defaults without a search.

    The second value holds what was set.
    """
    if not preset:
        return Settings(), [_NO_SEARCH]
    name = configuration(preset, None, None, {}).model.backbone
    if name not in keras_applications.APPLICATIONS:
        raise SystemExit(f"--preset: expected one with transfer learning. {preset} trains {name}")
    function = getattr(keras.applications, keras_applications.APPLICATIONS[name].function)
    file = work / "random.weights.h5"
    function(include_top=False, weights=None).save_weights(file)
    given = [f"model.weights={file}"]
    return configuration(preset, None, None, assigned(given)), given


def _divide(cats: Path, count: int | None, work: Path) -> tuple[Path, Path]:
    """Copy the photographs to folders of training and validation, by the split rule of a run."""
    split = Settings().split
    rule = SplitRule(**split.model_dump())
    parts: dict[str, list[Path]] = {name: [] for name in names.SPLITS}
    for path in common.sample(cats):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        parts[rule.assign(digest, None)].append(path)
    return (
        common.copy(common.subset(parts[names.TRAIN], count), work / "images" / "train"),
        common.copy(parts[names.VALIDATION], work / "images" / "validation"),
    )


def _measured(name: str, way: Callable[[Task], Trained], task: Task) -> Trained:
    result = way(task)
    print(
        f"{name}: {result.seconds:.1f} s ({result.cpu:.0f} of processors), validation "
        f"{result.accuracy:.4f}; {result.note}; load {os.getloadavg()[0]:.2f}",
        flush=True,
    )
    return result


def ours(task: Task) -> Trained:
    """Train by a run of imgpipe, in a new output folder."""
    out = Path(tempfile.mkdtemp(dir=task.train.parents[1]))
    ran = common.run_imgpipe(task.train.parent, out, task.given, task.options.preset)
    times = ran.summary["timings"]["components"]
    nodes = list(times)
    used = nodes[: nodes.index("ImageTrainer") + 1]
    seconds = sum(times[name] for name in used)
    note = ", ".join(f"{name} {times[name]:.1f} s" for name in used if times[name] >= 1)
    return Trained(seconds, ran.processor, ran.accuracy("decided"), note)


def the_course(task: Task) -> Trained:
    """Augment and run the whole network on every photograph in every epoch."""
    augmented = ImageDataGenerator(
        rotation_range=40,
        width_shift_range=0.2,
        height_shift_range=0.2,
        shear_range=0.2,
        zoom_range=0.2,
        horizontal_flip=True,
        fill_mode="nearest",
    )
    side = task.settings.size
    flow = {"target_size": (side, side), "batch_size": COURSE_BATCH, "class_mode": "binary"}
    return _epochs(
        task,
        keras.optimizers.RMSprop(COURSE_RATE),
        lambda: augmented.flow_from_directory(str(task.train), **flow),
        lambda: ImageDataGenerator().flow_from_directory(str(task.validation), **flow),
    )


def plain_keras(task: Task) -> Trained:
    """Train as in Keras' guide to transfer learning."""
    layers = keras.layers
    side = task.settings.size
    augmented = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(40 / 360),
            layers.RandomTranslation(0.2, 0.2),
            layers.RandomZoom(0.2),
        ]
    )

    def read(folder: Path) -> tf.data.Dataset:
        return keras.utils.image_dataset_from_directory(
            str(folder),
            label_mode="binary",
            image_size=(side, side),
            batch_size=PLAIN_BATCH,
            verbose=False,
        ).prefetch(tf.data.AUTOTUNE)

    return _epochs(
        task,
        keras.optimizers.Adam(PLAIN_RATE),
        lambda: read(task.train),
        lambda: read(task.validation),
        augmented,
    )


def _epochs(
    task: Task,
    optimizer: keras.optimizers.Optimizer,
    training: Callable[[], object],
    validation: Callable[[], object],
    augmented: keras.Model | None = None,
) -> Trained:
    """Build, compile and fit a network; the time of the epochs that ran is scaled to all."""
    epochs = min(task.options.measure or math.ceil(task.epochs), math.ceil(task.epochs))
    keras.utils.set_random_seed(0)
    started = time.perf_counter()
    cpu = time.process_time()
    model = _whole_network(task, augmented)
    model.compile(
        optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    ready = time.perf_counter()
    cpu_ready = time.process_time()
    history = model.fit(training(), validation_data=validation(), epochs=epochs, verbose=0)
    ended = time.perf_counter()
    cpu_ended = time.process_time()
    times = task.epochs / epochs
    seconds = ready - started + (ended - ready) * times
    cpu = cpu_ready - cpu + (cpu_ended - cpu_ready) * times
    note = f"{epochs} epochs of {(ended - ready) / epochs:.1f} s, float32"
    if epochs < task.epochs:
        note += f", multiplied to {task.epochs:g} epochs"
    accuracies = history.history["val_accuracy"]
    best = int(np.argmax(accuracies))
    note += f", best validation {accuracies[best]:.4f} in epoch {best + 1}"
    return Trained(seconds, cpu, accuracies[-1], note)


def _whole_network(task: Task, augmented: keras.Model | None) -> keras.Model:
    """Build the frozen backbone with its normalisation, and the head with one sigmoid unit."""
    settings = task.settings
    layers = keras.layers
    shape = (settings.size, settings.size, 3)
    pixels = keras.Input(shape, dtype="float32")
    if task.options.folded:
        frozen = keras.Model(pixels, task.backbone.build(pixels)[0])
    elif task.backbone.name in efficientnet_lite.VARIANTS:
        frozen = with_norms(settings)
    else:
        frozen = keras.Model(pixels, _application(pixels, task.backbone))
    frozen.trainable = False
    images = keras.Input(shape, dtype="float32")
    seen = augmented(images) if augmented else images
    features = read([frozen(seen)], settings.model.features, axes=())
    if settings.course.hidden_units:
        features = layers.Dense(settings.course.hidden_units, activation="relu")(features)
    features = layers.Dropout(settings.course.dropout)(features)
    return keras.Model(images, layers.Dense(1, activation="sigmoid")(features))


def _application(pixels: keras.KerasTensor, backbone: backbones.Backbone) -> keras.KerasTensor:
    """Build a network of keras.applications as the notebook of the course loads and cuts it."""
    function = getattr(keras.applications, keras_applications.APPLICATIONS[backbone.name].function)
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(pixels)
    network = function(include_top=False, weights=None, input_tensor=scaled)
    network.load_weights(backbone.weights)
    return network.get_layer(backbone.cut).output if backbone.cut else network.output


def with_norms(settings: Settings) -> keras.Model:
    """Build an EfficientNet-Lite with BatchNorm layers, as keras.applications has them.

    The folded weights are set in it, so that the scale of each BatchNorm is 1.
    """
    pixels = keras.Input((settings.size, settings.size, 3), dtype="float32")
    backbone = replace(settings.backbone_spec(), weights="none")
    network = keras.Model(pixels, backbone.build(pixels, trainable=True)[0])
    variant = efficientnet_lite.VARIANTS[settings.model.backbone]
    weights = efficientnet_lite.read_weights(variant)
    for unit in efficientnet_lite.units(variant):
        kernel, bias = efficientnet_lite.folded(weights, unit)
        network.get_layer(unit.name).set_weights([kernel])
        ones = np.ones_like(bias)
        # Of gamma, beta, mean and variance: the scale is 1 / sqrt(variance + epsilon), which is 1.
        norm = network.get_layer(f"{unit.name}_bn")
        norm.set_weights([ones, bias, 0 * ones, ones - np.float32(norm.epsilon)])
    return network


def _figures(
    before: Trained, others: dict[str, Trained], after: Trained, task: Task
) -> list[Figure]:
    seconds = (before.seconds + after.seconds) / 2
    cpu = (before.cpu + after.cpu) / 2
    measured = task.options.measure or task.epochs
    part = f", {measured} measured and multiplied" if measured < task.epochs else ""
    folded = ", with our folded backbone" if task.options.folded else ""
    figures = [
        Figure(
            "photographs to trained head, ours",
            f"{seconds:.1f} s ({before.seconds:.1f} before, {after.seconds:.1f} after), "
            f"validation {before.accuracy:.4f}",
        )
    ]
    for name, course in others.items():
        ratios = sorted(course.seconds / run.seconds for run in (before, after))
        figures += [
            Figure(
                f"{name}{folded} / ours, {task.epochs:g} epochs{part}",
                f"{course.seconds / seconds:.1f} × ({ratios[0]:.1f} to {ratios[1]:.1f}), "
                f"{course.cpu / cpu:.1f} × in processor seconds",
                f"≥ {GOALS[name]} ×",
            ),
            Figure(f"… {name}", f"{course.seconds:.1f} s, validation {course.accuracy:.4f}"),
        ]
    return figures


if __name__ == "__main__":
    main()
