"""Test accuracy of the default configuration, of Keras' guide and of scikit-learn, side by side.

    python -m benchmarks.rivals [--sets SET …] [--seeds N] [--minutes M]

Each row is one set and one split seed. `imgpipe run` trains first, with the recipe
`benchmarks/recipes/SET_defaults.toml`. The others get the images of its splits, and start from
the same backbone with the same weights:

- Keras' guide to transfer learning and fine-tuning (https://keras.io/guides/transfer_learning/):
  augmenting layers and a head on the frozen backbone with Adam at 1e-3, and then every layer at
  1e-5. It may take as long as FeatureBank and ImageTrainer of imgpipe took together, half of it for
  the head. Each half ends early after five epochs without a better validation accuracy, and keeps
  the weights of its best epoch.
- scikit-learn's `LogisticRegression` on standardised features of the training images.

Test images are only counted at the end. No setting of any of them was chosen by these figures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import against_course, common, training
from benchmarks.common import Figure, Finished, ImageSet
from imgpipe.components.common.storage import records
from imgpipe.models import names, preprocess
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.settings.model import AVERAGE, ModelSettings

SETS = ("cats_dogs", "sign_digits", "rps_photos", "flowers_128", "rps_cgi_28")
BATCH, HEAD_RATE, WHOLE_RATE, PATIENCE, DROPOUT = 32, 1e-3, 1e-5, 5, 0.2


@dataclass(frozen=True)
class Result:
    """Accuracy on the test images that one way reached, and its seconds."""

    accuracy: float
    seconds: float
    note: str = ""


def main() -> None:
    """Measure the chosen sets and print the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, metavar="SET")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="splits of each set")
    parser.add_argument("--minutes", type=float, help="minutes of the search of imgpipe")
    options = parser.parse_args()
    print(f"machine: {common.machine()}")
    figures: list[Figure] = []
    with common.workplace(options.work) as work:
        for name in options.sets:
            rows = [_row(name, seed, options, work) for seed in range(options.seeds)]
            figures += _figures(name, rows)
    common.finish(figures)


def _row(name: str, seed: int, options: argparse.Namespace, work: Path) -> dict[str, Result]:
    """Run the three ways on one split of a set."""
    recipe = f"{name}_defaults"
    data = common.data_set(options.data, training.TASKS[recipe].folder)
    settings = [f"split.seed={seed}"]
    if options.minutes is not None:
        settings.append(f"train.minutes={options.minutes}")
    out = work / f"{name}{seed}"
    run = common.run_imgpipe(data, out, settings, training.RECIPES / f"{recipe}.toml")
    splits = _splits(out)
    times = run.summary["timings"]["components"]
    seconds = float(times["FeatureBank"] + times["ImageTrainer"])
    ways = {
        "imgpipe": Result(run.accuracy("test"), seconds, _ended(run)),
        "Keras' guide": keras_guide(splits, seconds),
        "scikit-learn": scikit_learn(splits),
    }
    for way, result in ways.items():
        print(
            f"{name}, seed {seed}, {way}: test {result.accuracy:.4f} of {len(splits[names.TEST])} "
            f"images, {result.seconds:.0f} s{result.note}; load {os.getloadavg()[0]:.2f}",
            flush=True,
        )
    return ways


def _ended(run: Finished) -> str:
    tried = (run.summary.get("training") or {}).get("search") or []
    return f"; {len(tried)} tried"


def _splits(out: Path) -> dict[str, ImageSet]:
    """Read the images of each split that the run trained on and evaluated."""
    (run,) = (out / "runs").glob("*/artifacts.json")
    uri = str(out / json.loads(run.read_text())["ImageFilter"]["examples"])
    splits = {}
    for split in names.SPLITS:
        examples = list(records.iterate(uri, split))
        images = [records.raw(example, names.IMAGE_BYTES) for example in examples]
        hashes = [records.content_hash(example) for example in examples]
        labels = np.array([records.first(example, names.LABEL_INDEX) for example in examples])
        splits[split] = ImageSet(images, hashes, labels, 0)
    classes = 1 + max(int(image_set.labels.max()) for image_set in splits.values())
    return {
        split: ImageSet(image_set.images, image_set.hashes, image_set.labels, classes)
        for split, image_set in splits.items()
    }


def scikit_learn(splits: dict[str, ImageSet]) -> Result:
    """Fit a logistic regression to the features of the unchanged images."""
    started = time.perf_counter()
    extractor = FeatureExtractor(ModelSettings(features=AVERAGE))

    def features(split: str) -> np.ndarray:
        image_set = splits[split]
        views = [range(1)] * len(image_set)
        return np.concatenate(list(extractor.extract(image_set.images, image_set.hashes, views)))

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(features(names.TRAIN), splits[names.TRAIN].labels)
    seconds = time.perf_counter() - started
    return Result(_accuracy(model.predict(features(names.TEST)), splits), seconds)


def _accuracy(answers: np.ndarray, splits: dict[str, ImageSet]) -> float:
    return float((answers == splits[names.TEST].labels).mean())


def keras_guide(splits: dict[str, ImageSet], seconds: float) -> Result:
    """Train a head on the frozen backbone, then every layer, for so many seconds at most."""
    started = time.perf_counter()
    keras.utils.set_random_seed(0)
    settings = ModelSettings()
    batches = {split: _batches(image_set, settings.size) for split, image_set in splits.items()}
    model, backbone = _network(settings, splits[names.TRAIN].classes)
    best = _Best()
    epochs = []
    for rate, part in ((HEAD_RATE, 0.5), (WHOLE_RATE, 1.0)):
        backbone.trainable = rate == WHOLE_RATE
        model.compile(
            keras.optimizers.Adam(rate),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,
        )
        best.until = started + part * seconds
        model.fit(
            batches[names.TRAIN].shuffle(1024, seed=0).batch(BATCH).prefetch(2),
            validation_data=batches[names.VALIDATION].batch(BATCH),
            epochs=1000,
            callbacks=[best],
            verbose=0,
        )
        best.restore()
        epochs.append(best.epochs)
    took = time.perf_counter() - started
    answers = model.predict(batches[names.TEST].batch(BATCH), verbose=0).argmax(axis=1)
    note = f"; epochs of the head {epochs[0]}, of all layers {epochs[1]}"
    return Result(_accuracy(answers, splits), took, note)


def _batches(images: ImageSet, size: int) -> tf.data.Dataset:
    """Decode and resize the images once, and keep their pixels in memory."""
    decoded = (preprocess.decode(image, size) for image in images.images)
    rounded = (tf.cast(tf.round(values), tf.uint8) for values in decoded)
    pixels = np.stack([np.asarray(values) for values in rounded])
    return tf.data.Dataset.from_tensor_slices((pixels, images.labels))


def _network(settings: ModelSettings, classes: int) -> tuple[keras.Model, keras.Model]:
    """Build the network of the guide with the default backbone, and return both."""
    layers = keras.layers
    backbone = against_course.with_norms(settings)
    images = keras.Input((settings.size, settings.size, 3), dtype="float32")
    seen = layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(images))
    features = layers.GlobalAveragePooling2D()(backbone(seen, training=False))
    answers = layers.Dense(classes, activation="softmax")(layers.Dropout(DROPOUT)(features))
    return keras.Model(images, answers), backbone


class _Best(keras.callbacks.Callback):
    """Ends training when the time is over or nothing improves, and keeps the best weights."""

    def __init__(self) -> None:
        super().__init__()
        self.until = math.inf
        self.epochs = 0
        self._waited = 0
        self._accuracy = -1.0
        self._weights = None

    def on_train_begin(self, logs: object = None) -> None:
        """Wait anew. The weights that training starts from remain the best ones for now."""
        self.epochs = 0
        self._waited = 0

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """End training at the time limit."""
        self.model.stop_training = time.perf_counter() > self.until

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep the weights if the accuracy on validation is the highest so far."""
        self.epochs = epoch + 1
        self._waited += 1
        if logs and logs["val_accuracy"] > self._accuracy:
            self._accuracy = logs["val_accuracy"]
            self._waited = 0
            self._weights = self.model.get_weights()
        if self._waited == PATIENCE:
            self.model.stop_training = True

    def restore(self) -> None:
        """Set the best weights."""
        self.model.set_weights(self._weights)


def _figures(name: str, rows: list[dict[str, Result]]) -> list[Figure]:
    """Return the mean accuracy of each way over the splits, with its standard error."""
    figures = []
    for way in rows[0]:
        values = [row[way].accuracy for row in rows]
        seconds = statistics.mean(row[way].seconds for row in rows)
        text = f"{statistics.mean(values):.4f}"
        if values[1:]:
            text += f" (standard error {statistics.stdev(values) / math.sqrt(len(values)):.4f})"
        figures.append(Figure(f"{name}, {way}: test accuracy", f"{text}, {seconds:.0f} s"))
    return figures


if __name__ == "__main__":
    main()
