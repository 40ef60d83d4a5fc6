"""Rows that are computed from images before training: their pixels, or activations at a cut.

Images are decoded once, and the frozen layers see each view once. Large arrays are in a temporary
file, so memory does not grow with the number of images.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from imgpipe.models import augmentation, preprocess
from imgpipe.models.errors import DataRefused
from imgpipe.models.features import rows
from imgpipe.models.features.examples import Labelled
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names
from imgpipe.models.settings.views import ViewSpec
from imgpipe.models.training.datasets import Rows

_FREE_SHARE: Final = 0.25  # share of the space for temporary files that activations may use


def pixels(patterns: Sequence[str], side: int, classes: int, views: ViewSpec) -> Rows:
    """Decode the labelled images of some record files, in the order of their content hashes.

    The pixels are stored as uint8; rounding changes a pixel by at most half a step of 255.

    They are those of one split, uint8 [n, S, S, 3], with their labels, seeds and the augmentation
    from which training draws its views.

    Raises:
        DataRefused: A label lies outside the vocabulary.
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

    stored = rows.empty(len(images), (side, side, 3), np.uint8)
    progress.total(len(images), "images")
    for places, encoded in images.values(names.IMAGE_BYTES):
        stored[places] = decoded(encoded)
        rows.release(stored)
        progress.advance(len(places), "images")
    seeds = augmentation.seeds([digest.decode() for digest in images.hashes])
    return Rows(stored, images.labels, np.array(seeds, np.int64), views)


def have_space(extractor: FeatureExtractor, images: int, views: int) -> bool:
    """Return whether the activations of images and of augmented views of them have space.

    They may use a quarter of the free space for temporary files. The network of the extractor is
    built.
    """
    free = _FREE_SHARE * shutil.disk_usage(tempfile.gettempdir()).free
    return 2 * math.prod(extractor.shape) * images * (views + 1) <= free  # float16


def activations(
    images: Labelled,
    extractor: FeatureExtractor,
    views: int,
    over: Callable[[], bool] = lambda: False,
) -> Rows | None:
    """Compute the activations of images at a cut, sorted by content hash and view.

    They are float16 [n · (views + 1), h, w, C]: those of each image and of so many augmented views
    of it. `over` is called before each batch and returns whether the time is over, at which the
    result is None.
    """
    per_image = views + 1  # rows of an image
    stored = rows.empty(per_image * len(images), extractor.shape, np.float16)
    progress.total(len(images), "images")
    for places, encoded in images.values(names.IMAGE_BYTES):
        if over():
            return None
        hashes = [digest.decode() for digest in images.hashes[places]]
        batch = extractor.extract(encoded.tolist(), hashes, [range(per_image)] * len(places))
        numbers = per_image * places[:, None] + np.arange(per_image)
        stored[numbers.reshape(-1)] = np.concatenate(batch)
        rows.release(stored)
        progress.advance(len(places), "images")
    return Rows(stored, np.repeat(images.labels, per_image))


def seconds_a_view(images: Labelled, extractor: FeatureExtractor) -> float:
    """Measures the seconds of a forward pass of one view, after a pass that compiles it."""
    places, encoded = next(images.values(names.IMAGE_BYTES))
    hashes = [digest.decode() for digest in images.hashes[places]]
    extractor.extract(encoded.tolist(), hashes, [[0]] * len(places))
    # So many that the start of tf.data hardly counts; augmentation is part of the cost of a view.
    started = time.perf_counter()
    views = range(8)
    extractor.extract(encoded.tolist(), hashes, [views] * len(places))
    return (time.perf_counter() - started) / (len(views) * len(places))
