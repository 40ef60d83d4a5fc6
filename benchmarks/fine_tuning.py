"""Fine-tuning from banked activations against fine-tuning every layer on the fly.

    python -m benchmarks.fine_tuning [--cut block12] [--images 800] [--passes 8]

Both begin at ImageNet weights and the same photographs, and train on as many views: ours runs the
layers below the cut once a view and trains those above it from what they gave, the other runs and
trains the whole network on a fresh view of each photograph in every pass. Measured in one process,
one after the other; accuracies are of the same validation images with their standard error.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from benchmarks import common
from benchmarks.backbone import MATRIX, fastest, operations_an_image, product
from benchmarks.common import Figure, ImageSet, Trained
from imgpipe.models import augmentation, datasets, preprocess, stages
from imgpipe.models.bank import BankRows
from imgpipe.models.extractor import FeatureExtractor
from imgpipe.models.hash_column import HashColumn
from imgpipe.models.setting_sections import FineTune
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training_loop import Fit, fit, fit_head

_VALIDATION = 0.2


def main() -> None:
    """Both ways, their ratio, and the share of the peak that training above the cut reaches."""
    parser = common.parser(__doc__)
    parser.add_argument("--set", default="sign_digits", help="below the reference data")
    parser.add_argument("--cut", default="block12")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--passes", type=int, default=8, help="views of each photograph trained on")
    parser.add_argument("--views", type=int, default=1, help="in the bank, beside the clean one")
    parser.add_argument("--rate", type=float, default=1e-3, help="of both, at its highest")
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
            "… validation accuracy of the two",
            f"{bank.accuracy:.3f} and {whole.accuracy:.3f} (standard error {error:.3f})",
            "equal within it",
        ),
        share(classes, settings, options.cut),
    ]
    common.finish(figures)


def read(folder: Path, count: int) -> tuple[ImageSet, ImageSet]:
    """Read images; content hashes assign them to train and validation."""
    images = ImageSet.of(common.sample(folder, count))
    held = np.array([int(digest[:8], 16) / 2**32 < _VALIDATION for digest in images.hashes])
    return images.rows(np.flatnonzero(~held)), images.rows(np.flatnonzero(held))


def ours(train: ImageSet, validation: ImageSet, classes: int, settings: ModelSettings) -> Trained:
    """The bank with activations at the cut, a head on it, then the layers above the cut."""
    cut = settings.fine_tune.cut
    started, cpu = time.perf_counter(), time.process_time()
    extractor = FeatureExtractor(views=settings.views, tap=cut)
    rows, maps = _rows(extractor, train, range(settings.views.count + 1))
    validation_rows, validation_maps = _rows(extractor, validation, range(1))
    ready = time.perf_counter() - started
    head = fit_head(rows, validation_rows, classes, settings)
    second = settings.second_stage()
    found = fit(
        lambda: stages.above_cut(classes, second, cut, head.head),
        maps,
        validation_maps,
        classes,
        second,
    )
    seconds = time.perf_counter() - started
    note = f"bank {ready:.0f} s, head {head.seconds:.0f} s, layers {found.seconds:.0f} s"
    return Trained(seconds, time.process_time() - cpu, found.best["val_accuracy"], note)


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
    """Every layer from the start, at the rate of fine-tuning, a fresh view each pass."""
    every = replace(
        settings.second_stage(), freeze="none", epochs=passes, patience=passes, fine_tune=FineTune()
    )
    started, cpu = time.perf_counter(), time.process_time()
    found: Fit = fit(
        lambda: stages.whole(classes, every),
        _decoded(train, every),
        _decoded(validation, every),
        classes,
        every,
    )
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Trained(seconds, cpu, found.best["val_accuracy"], f"{passes} passes")


def _decoded(image_set: ImageSet, settings: ModelSettings) -> datasets.Images:
    pixels = np.stack(
        [
            np.asarray(tf.cast(preprocess.decode_and_resize(image, settings.size), tf.uint8))
            for image in image_set.images
        ]
    )
    seeds = np.array(augmentation.seeds(image_set.hashes), np.int64)
    return datasets.Images(pixels, image_set.labels, seeds, settings.views)


def share(classes: int, settings: ModelSettings, cut: str) -> Figure:
    """Of the matmul peak in a training step above the cut: three passes' worth of operations."""
    model = stages.above_cut(classes, settings, cut)
    batch = settings.fine_tune.batch_size
    inputs = tf.random.uniform([batch, *model.inputs[0].shape[1:]])
    labels = tf.one_hot(tf.range(batch) % classes, classes)
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    step: Callable[[], object] = lambda: model.train_on_batch(inputs, labels)  # noqa: E731
    best_step, best_product = fastest((step, product("float32")), 8)
    reached = 3 * batch * operations_an_image(model) / best_step / 1e9
    peak = 2 * MATRIX**3 / best_product / 1e9
    return Figure(
        f"a training step above {cut}, float32: share of the matmul peak of the same run",
        f"{reached / peak:.0%} ({1e3 * best_step / batch:.2f} ms a view)",
    )


if __name__ == "__main__":
    main()
