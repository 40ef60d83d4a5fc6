"""Rows to train on: how they are computed from images, and in which order they are read.

There are three kinds of rows: features, activations at a cut, and whole images that are augmented
anew in each epoch.

Images are decoded once, and the frozen layers see each view once. Large arrays are in a temporary
file, so memory does not grow with the number of images.
"""

from __future__ import annotations

import functools
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from imgpipe.models import augmentation, names, preprocess
from imgpipe.models.arrays import Array, Flags, Integers, Names
from imgpipe.models.errors import DataRefused
from imgpipe.models.features import rows as stored_rows
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.rows import Labelled
from imgpipe.models.head.learned import Learned
from imgpipe.models.head.logistic_regression import class_weights
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import untuned
from imgpipe.models.settings.course import ViewSpec
from imgpipe.models.settings.settings import Settings

if TYPE_CHECKING:
    import tensorflow as tf

_FREE_SHARE: Final = 0.25  # share of the space for temporary files that activations may use
_TIMED_IMAGES: Final = 32  # by which the speed of this machine is measured


def _none() -> Names:
    """Return the names of images that nobody asks for."""
    return np.empty(0, np.bytes_)


@dataclass(frozen=True)
class Rows:
    """Labelled rows of any shape, as they are stored and as inputs of a network."""

    #: Features or activations as float16, or pixels as uint8, [n, ...]; of more rows with `places`.
    stored: Array
    labels: Integers  # label index of each row, int64 [n], 0..classes-1
    seeds: Integers | None = None  # of images, int64 [n]; see `augmentation.seeds`
    #: Settings of the augmentation of images, which show another view in each epoch. None, or a
    #: `count` of 0, leaves the rows unchanged.
    views: ViewSpec | None = None
    places: Integers | None = None  # where each row is in `stored`, [n]; None for their order
    #: Content hash of the image of each row, and the name of its family, bytes [n].
    hashes: Names = field(default_factory=_none)
    families: Names = field(default_factory=_none)

    @classmethod
    def of(cls, part: BankRows) -> Rows:
        """Return the rows of a feature bank."""
        return cls(part.features, part.labels, hashes=part.hashes, families=part.groups)

    def select(self, wanted: Flags) -> Rows:
        """Return some rows, by flags, bool [n], which are read from the same array."""
        numbers = np.flatnonzero(wanted)
        return replace(
            self,
            labels=self.labels[numbers],
            seeds=None if self.seeds is None else self.seeds[numbers],
            places=numbers if self.places is None else self.places[numbers],
            hashes=self.hashes[numbers],
            families=self.families[numbers],
        )

    @property
    def learned(self) -> Learned:
        """What a network learns from that is trained on the rows."""
        return Learned.of(self.hashes, self.families)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def vectors(self) -> bool:
        """Whether the rows are feature vectors."""
        return self.stored.ndim == 2

    @functools.cached_property
    def _constant(self) -> tf.Tensor:
        """Feature vectors in memory, which TensorFlow gathers without a call of Python."""
        import tensorflow as tf

        with tf.init_scope():  # otherwise it would belong to the graph of the first dataset
            return tf.constant(self.stored)

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Return rows [m, ...] by number, int64 [m], without a copy of all rows in TensorFlow."""
        import tensorflow as tf

        if self.vectors and not stored_rows.mapped(self.stored):
            return tf.gather(self._constant, index)

        def gather(index: Integers) -> Array:
            taken = self.stored[index if self.places is None else self.places[index]]
            stored_rows.release(self.stored)
            return taken

        kind = tf.as_dtype(self.stored.dtype)
        # The rows never change, so TensorFlow need not take each call for a new result.
        batch = tf.numpy_function(gather, [index], kind, stateful=False)
        batch.set_shape([None, *self.stored.shape[1:]])  # TensorFlow cannot look into `gather`
        return batch

    def shown(self, stored: tf.Tensor, index: tf.Tensor, views: tf.Tensor | None) -> tf.Tensor:
        """Return the inputs of the network for rows as `read` returns them, float32 [m, ...].

        The views, int64 [m], in which the rows are trained on never repeat; None in validation.
        """
        import tensorflow as tf

        inputs = tf.cast(stored, tf.float32)
        if views is None or self.views is None or not self.views.count:
            return inputs
        seeds = tf.gather(tf.constant(self.seeds), index)
        return augmentation.augment(inputs, seeds, views, self.views)


def steps_per_epoch(rows: Rows, settings: Settings) -> int:
    """Return the number of steps of one epoch: all rows, or the limit that the settings give."""
    all_rows = -(-len(rows) // settings.course.batch_size)
    most = settings.course.steps_per_epoch
    return min(all_rows, most) if most else all_rows


def training(rows: Rows, classes: int, settings: Settings) -> tf.data.Dataset:
    """Return the dataset of all epochs, each with the rows in another order.

    It has (inputs [m, ...], one-hot labels [m, classes], weights [m]). The weights are 1 unless the
    settings balance the loss by class.
    """
    import tensorflow as tf

    labels = tf.constant(rows.labels)
    weights = tf.constant(class_weights(rows.labels, classes, settings.course.balance))
    steps = steps_per_epoch(rows, settings)

    def batches(epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([tf.constant(settings.train.seed, tf.int64), epoch])
        number = tf.range(len(rows), dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(number, seed)
        dataset = tf.data.Dataset.from_tensor_slices((order, 1 + epoch * len(rows) + number))
        return dataset.batch(settings.course.batch_size).take(steps)

    def load(index: tf.Tensor, views: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        label = tf.gather(labels, index)
        inputs = rows.shown(rows.read(index), index, views)
        return inputs, tf.one_hot(label, classes), tf.gather(weights, label)

    dataset = tf.data.Dataset.range(settings.course.epochs).flat_map(batches)
    dataset = dataset.map(load, num_parallel_calls=2, deterministic=True)
    return untuned(dataset.prefetch(2))


def validation(rows: Rows, classes: int) -> tf.data.Dataset:
    """Return a dataset of all rows in their order: (inputs [m, ...], one-hot labels [m, C])."""
    import tensorflow as tf

    labels = tf.constant(rows.labels)

    @tf.autograph.experimental.do_not_convert  # to convert it would take 0.2 s
    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs = rows.shown(rows.read(index), index, None)
        return inputs, tf.one_hot(tf.gather(labels, index), classes)

    at_once = 1024 if rows.vectors else 64  # this affects memory only, not the result
    dataset = tf.data.Dataset.range(len(rows)).batch(at_once)
    return untuned(dataset.map(load).prefetch(1))


def pixels(patterns: Sequence[str], side: int, classes: int, views: ViewSpec) -> Rows:
    """Decode the labelled images of some record files, in the order of their content hashes.

    They are those of one split, uint8 [n, S, S, 3], with their labels, seeds and the augmentation
    from which training draws its views. The rounding to uint8 changes a pixel by at most half a
    step of 255. A DataRefused says that a label lies outside the vocabulary.
    """
    import tensorflow as tf

    images = Labelled.read(patterns)
    if len(images) and images.labels.max() >= classes:
        raise DataRefused(
            f"images: label index {images.labels.max()}, the vocabulary has {classes} names. The "
            "images and the vocabulary come from different runs"
        )

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def decoded(encoded: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.round(preprocess.batch_decode(encoded, side)), tf.uint8)

    stored = stored_rows.empty(len(images), (side, side, 3), np.uint8)
    progress.total(len(images), "images")
    for places, encoded in images.values(names.IMAGE_BYTES):
        stored[places] = decoded(encoded)
        stored_rows.release(stored)
        progress.advance(len(places), "images")
    seeds = augmentation.seeds([digest.decode() for digest in images.hashes])
    return Rows(
        stored,
        images.labels,
        np.array(seeds, np.int64),
        views,
        hashes=images.hashes,
        families=images.families,
    )


def have_space(extractor: FeatureExtractor, images: int, views: int) -> bool:
    """Return whether the activations of images and of augmented views of them have space.

    They may use a quarter of the free space for temporary files. The network of the extractor is
    built.
    """
    free = _FREE_SHARE * shutil.disk_usage(tempfile.gettempdir()).free
    return 2 * math.prod(extractor.shape) * images * (views + 1) <= free  # float16


class Activations:
    """The activations of images and of at most so many augmented views of each at a cut.

    Each is computed when a training first asks for it, and kept for the others.
    """

    def __init__(self, images: Labelled, extractor: FeatureExtractor, views: int) -> None:
        self.extractor = extractor
        self._images = images
        rows = len(images) * (views + 1)
        self._stored = stored_rows.empty(rows, extractor.shape, np.float16)
        self._computed = np.zeros((len(images), views + 1), np.bool_)

    def rows(self, images: Labelled, views: int) -> Rows:
        """Return the activations of some of the images, sorted by content hash and view.

        They are float16 [n · (views + 1), h, w, C]: those of each image and of so many augmented
        views of it.
        """
        of_images = np.searchsorted(self._images.hashes, images.hashes)
        self._compute(of_images, views)
        count = self._computed.shape[1]
        places = count * of_images[:, None] + np.arange(views + 1)
        return Rows(
            self._stored,
            np.repeat(images.labels, views + 1),
            places=places.reshape(-1),
            hashes=np.repeat(images.hashes, views + 1),
            families=np.repeat(images.families, views + 1),
        )

    def _compute(self, wanted: Integers, views: int) -> None:
        """Compute the activations of images by number, as far as they are not there yet."""
        missing = np.zeros_like(self._computed)
        missing[wanted, : views + 1] = True
        missing &= ~self._computed
        incomplete: Flags = np.asarray(missing.any(axis=1))
        numbers = np.flatnonzero(incomplete)
        if not len(numbers):
            return
        progress.total(len(numbers), "images")
        for places, encoded in self._images.select(incomplete).values(names.IMAGE_BYTES):
            here = numbers[places]
            hashes = [digest.decode() for digest in self._images.hashes[here]]
            wanted_views = [np.flatnonzero(missing[number]).tolist() for number in here]
            batch = self.extractor.extract(encoded.tolist(), hashes, wanted_views)
            image, view = np.nonzero(missing[here])
            self._stored[self._computed.shape[1] * here[image] + view] = np.concatenate(batch)
            stored_rows.release(self._stored)
            progress.advance(len(places), "images")
        self._computed |= missing


def seconds_a_pass(extractor: FeatureExtractor) -> float:
    """Measures the seconds of one image in the whole network, without those of decoding it."""
    import tensorflow as tf

    side = extractor.settings.size
    pixels = tf.zeros([_TIMED_IMAGES, side, side, 3])
    for _ in range(2):  # the first pass compiles
        started = time.perf_counter()
        extractor.feature_maps.graph(pixels)[0].numpy()
    return (time.perf_counter() - started) / _TIMED_IMAGES
