"""Fine-tuning on stored activations against fine-tuning of every layer on images.

    python -m benchmarks.fine_tuning [--cut block12] [--images 800] [--passes 8]

Both ways begin with ImageNet weights, use the same photographs and train on equally many views.
Ours runs the layers below the cut once for each view, and trains the layers above it on their
output. The other way trains the whole network on a new view of each photograph in every pass. They
are measured in one process, one after the other. Both accuracies are of the same validation images.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from benchmarks import common
from benchmarks.backbone import MATRIX, fastest, operations_an_image, product
from benchmarks.common import Figure, ImageSet, Trained
from imgpipe.models import augmentation, preprocess
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.hash_column import HashColumn
from imgpipe.models.setting_sections import FineTune
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import datasets, stages
from imgpipe.models.training.training_loop import fit, fit_head

_VALIDATION = 0.2


def main() -> None:
    """Measure both ways, and a training step above the cut."""
    parser = common.parser(__doc__)
    parser.add_argument("--set", default="sign_digits", help="folder of the photographs")
    parser.add_argument("--cut", default="block12")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--passes", type=int, default=8, help="views of each photograph")
    parser.add_argument("--views", type=int, default=1, help="augmented views in the bank")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    options = parser.parse_args()
    folder = common.data_set(options.data, options.set)
    train, validation = read(folder, options.images)
    classes = train.classes
    settings = ModelSettings(
        batch_size=32,
        learning_rate=1e-3,
        views=augmentation.ViewSpec(count=options.views),
        fine_tune=FineTune(
            mode="on",
            cut=options.cut,
            learning_rate=options.rate,
            epochs=max(1, round(options.passes / (options.views + 1))),
            patience=options.passes,
        ),
    )
    bank = ours(train, validation, classes, settings)
    print(f"from the bank: {bank}", flush=True)
    whole = on_the_fly(train, validation, classes, settings, options.passes)
    print(f"on the fly:    {whole}", flush=True)
    error = math.sqrt(whole.accuracy * (1 - whole.accuracy) / len(validation))
    figures = [
        Figure(
            f"fine-tuning above {options.cut} from the bank against all layers on the fly, "
            f"{len(train)} photographs, {options.passes} passes",
            f"{whole.seconds / bank.seconds:.1f} × less time ({bank.seconds:.0f} s, {bank.note}; "
            f"{whole.seconds:.0f} s), {whole.cpu / bank.cpu:.1f} × of processors",
            "≥ 4 ×",
        ),
        Figure(
            "… validation accuracy of both",
            f"{bank.accuracy:.3f} and {whole.accuracy:.3f} (standard error {error:.3f})",
            "equal within the error",
        ),
        *steps(classes, settings, options.cut),
    ]
    common.finish(figures)


def read(folder: Path, count: int) -> tuple[ImageSet, ImageSet]:
    """Read images, and divide them into train and validation by content hash."""
    images = ImageSet.of(common.sample(folder, count))
    held = np.array([int(digest[:8], 16) / 2**32 < _VALIDATION for digest in images.hashes])
    return images.rows(np.flatnonzero(~held)), images.rows(np.flatnonzero(held))


def ours(train: ImageSet, validation: ImageSet, classes: int, settings: ModelSettings) -> Trained:
    """Fill the bank, and train a head and then the layers above the cut on it."""
    cut = settings.fine_tune.cut
    started, cpu = time.perf_counter(), time.process_time()
    extractor = FeatureExtractor(views=settings.views, tap=cut)
    rows, maps = _rows(extractor, train, range(settings.views.count + 1))
    validation_rows, validation_maps = _rows(extractor, validation, range(1))
    ready = time.perf_counter() - started
    head = fit_head(rows, validation_rows, classes, settings)
    second = settings.second_stage()
    above = partial(stages.above_cut, classes, second, cut, head.head)
    found = fit(above, maps, validation_maps, classes, second)
    seconds = time.perf_counter() - started
    cpu = time.process_time() - cpu
    note = f"bank {ready:.0f} s, head {head.seconds:.0f} s, layers {found.seconds:.0f} s"
    accuracy = float(stages.judged(found, validation_maps, note).right.mean())  # in float32
    return Trained(seconds, cpu, accuracy, note)


def _rows(
    extractor: FeatureExtractor, image_set: ImageSet, views: range
) -> tuple[BankRows, datasets.Maps]:
    rows = np.concatenate(
        extractor.extract(image_set.images, image_set.hashes, [views] * len(image_set))
    )
    labels = np.repeat(image_set.labels, len(views))
    numbers = np.tile(np.array(views), len(image_set))
    hashes = HashColumn.of(np.repeat(np.array(image_set.hashes, "S"), len(views)))
    maps = rows[:, extractor.dim :].reshape(len(rows), *extractor.activation_shape)
    bank = BankRows(rows[:, : extractor.dim], labels, numbers, hashes)
    return bank, datasets.Maps(maps, labels)


def on_the_fly(
    train: ImageSet, validation: ImageSet, classes: int, settings: ModelSettings, passes: int
) -> Trained:
    """Train every layer from the start, on a new view of each image in every pass."""
    every = replace(
        settings.second_stage(), freeze="none", epochs=passes, patience=passes, fine_tune=FineTune()
    )
    started, cpu = time.perf_counter(), time.process_time()
    rows = _decoded(train, every), _decoded(validation, every)
    found = fit(partial(stages.whole, classes, every), *rows, classes, every)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Trained(seconds, cpu, found.best["val_accuracy"], f"{passes} passes")


def _decoded(image_set: ImageSet, settings: ModelSettings) -> datasets.Images:
    decoded = (preprocess.decode_and_resize(one, settings.size) for one in image_set.images)
    pixels = np.stack([np.asarray(tf.cast(one, tf.uint8)) for one in decoded])
    seeds = np.array(augmentation.seeds(image_set.hashes), np.int64)
    return datasets.Images(pixels, image_set.labels, seeds, settings.views)


def steps(classes: int, settings: ModelSettings, cut: str) -> list[Figure]:
    """Measure a training step above the cut, and the same step with the layers of Keras.

    A step has the operations of three passes.
    """
    model = stages.above_cut(classes, settings, cut)
    batch = settings.fine_tune.batch_size
    inputs = tf.random.uniform([batch, *model.inputs[0].shape[1:]])
    labels = tf.one_hot(tf.range(batch) % classes, classes)

    def step(network: keras.Model) -> Callable[[], object]:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        network.compile("adam", loss, jit_compile=False)
        return partial(network.train_on_batch, inputs, labels)

    slow = keras.models.clone_model(model, clone_function=_layer_of_keras)
    best, of_keras, best_product = fastest((step(model), step(slow), product("float32")), 8)
    reached = 3 * batch * operations_an_image(model) / best / 1e9
    peak = 2 * MATRIX**3 / best_product / 1e9
    return [
        Figure(
            f"a training step above {cut}, against the same step with the layers of Keras",
            f"{of_keras / best:.1f} × less time ({1e3 * best:.0f} and {1e3 * of_keras:.0f} ms "
            f"for {batch} views)",
        ),
        Figure("… share of the matmul peak in float32 of the same run", f"{reached / peak:.0%}"),
    ]


def _layer_of_keras(layer: Any) -> Any:
    """Return the layer that a layer of imgpipe replaces in training, in float32."""
    kind: Any = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("keras."))
    return kind.from_config({**layer.get_config(), "dtype": "float32"})


if __name__ == "__main__":
    main()
