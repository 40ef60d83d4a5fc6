"""Datasets for training: labelled rows of inputs, in an order that depends on the seed alone.

There are three kinds of rows: features, activations at a cut, and whole images that are augmented
anew in each epoch.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgpipe.models import augmentation
from imgpipe.models.features import rows as stored_rows
from imgpipe.models.head.logistic_regression import class_weights
from imgpipe.models.machine.process import untuned
from imgpipe.models.names.arrays import Array, Integers
from imgpipe.models.settings.model import ModelSettings
from imgpipe.models.settings.views import ViewSpec

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Rows:
    """Labelled rows of any shape, as they are stored and as inputs of a network."""

    stored: Array  # [n, ...]: features or activations as float16, or pixels as uint8
    labels: Integers  # label index of each row, int64 [n], 0..classes-1
    seeds: Integers | None = None  # of images, int64 [n]; see `augmentation.seeds`
    #: Settings of the augmentation of images, which show another view in each epoch. None, or a
    #: `count` of 0, leaves the rows unchanged.
    views: ViewSpec | None = None

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
            taken = self.stored[index]
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


def steps_per_epoch(rows: Rows, settings: ModelSettings) -> int:
    """Return the number of steps of one epoch: all rows, or the limit that the settings give."""
    all_rows = -(-len(rows) // settings.batch_size)
    return min(all_rows, settings.steps_per_epoch) if settings.steps_per_epoch else all_rows


def training(rows: Rows, classes: int, settings: ModelSettings) -> tf.data.Dataset:
    """Return the dataset of all epochs, each with the rows in another order.

    It has (inputs [m, ...], one-hot labels [m, classes], weights [m]). The weights are 1 unless the
    settings balance the loss by class.
    """
    import tensorflow as tf

    labels = tf.constant(rows.labels)
    weights = tf.constant(class_weights(rows.labels, classes, settings.balance))
    steps = steps_per_epoch(rows, settings)

    def batches(epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([tf.constant(settings.seed, tf.int64), epoch])
        number = tf.range(len(rows), dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(number, seed)
        dataset = tf.data.Dataset.from_tensor_slices((order, 1 + epoch * len(rows) + number))
        return dataset.batch(settings.batch_size).take(steps)

    def load(index: tf.Tensor, views: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        label = tf.gather(labels, index)
        inputs = rows.shown(rows.read(index), index, views)
        return inputs, tf.one_hot(label, classes), tf.gather(weights, label)

    dataset = tf.data.Dataset.range(settings.epochs).flat_map(batches)
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
