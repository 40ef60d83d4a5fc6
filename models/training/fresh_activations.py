"""Activations at a cut, computed from the images while layers above the cut are trained.

They are in a temporary file, because a search decides only while it runs which cut it needs.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.dataset_tuning import untuned
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.row_file import RowFile
from imgpipe.models.training.datasets import Maps
from imgpipe.models.training.images import in_order

_AT_ONCE: Final = 32  # images in one batch
_FREE_SHARE: Final = 0.25  # share of the space for temporary files that activations may use


class OutOfTime(Exception):
    """The time ended before all activations were computed."""


@dataclass(frozen=True)
class LabelledImages:
    """Images whose labels and hashes are read once for all networks.

    Attributes:
        files: The record files.
        positions: For each record the position of its image in the order of the content hashes, or
            -1 if it has no label or is not one of the images, int64 [records].
        hashes: Content hashes in this order, bytes [n].
        labels: Label indices in this order, int64 [n].
    """

    files: Sequence[str]
    positions: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.bytes_]
    labels: npt.NDArray[np.int64]

    @classmethod
    def of(cls, patterns: Sequence[str]) -> LabelledImages:
        """Read the labels and the hashes.

        Args:
            patterns: File patterns of the image examples of one or more splits.
        """
        import tensorflow as tf

        files = sorted(tf.io.gfile.glob(patterns))
        return cls(files, *in_order(files))

    def select(self, keep: npt.NDArray[np.bool_]) -> LabelledImages:
        """Return the images for which `keep`, bool [n], is true."""
        # The last number is that of records without an image, whose position is -1.
        new = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1)
        return LabelledImages(self.files, new[self.positions], self.hashes[keep], self.labels[keep])


@contextlib.contextmanager
def fresh_activations(
    images: LabelledImages,
    extractor: FeatureExtractor,
    views: int,
    over: Callable[[], bool] = lambda: False,
) -> Iterator[Maps]:
    """Provide the activations of all labelled images, sorted by content hash and view.

    Args:
        images: The images.
        extractor: Extractor with a tap at the cut.
        views: Number of augmented views of each image, in addition to the image itself.
        over: Function that is called after each batch and returns whether the time is over.

    Yields:
        The activations, float16 [n, h, w, C], with their labels; they are freed after the block.

    Raises:
        OutOfTime: The time ended before all activations were computed.
    """
    each = views + 1
    count = each * len(images.labels)
    with RowFile(count, extractor.activation_shape, np.float16) as activations:
        activations.fill(_activations(images.files, images.positions, extractor, each, over))
        yield Maps(activations, np.repeat(images.labels, each))


def most_views(extractor: FeatureExtractor, images: int) -> int:
    """Return how many augmented views have activations that fit into the space.

    Args:
        extractor: Extractor with a tap at the cut.
        images: Number of images.

    Returns:
        The number of views; -1 if not even the activations of the images themselves fit.
    """
    free = _FREE_SHARE * shutil.disk_usage(tempfile.gettempdir()).free
    bytes_of_a_view = 2 * math.prod(extractor.activation_shape) * images  # float16
    return int(free // max(bytes_of_a_view, 1)) - 1


def usual_side(patterns: Sequence[str]) -> int:
    """Return the median of the longer sides of the images in pixels; 0 when it is not known.

    Args:
        patterns: File patterns of the image examples of one split.
    """
    import tensorflow as tf

    number = tf.io.FixedLenFeature([], tf.int64, default_value=0)
    spec = {names.WIDTH: number, names.HEIGHT: number}
    dataset = tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(patterns))).batch(_AT_ONCE)
    dataset = dataset.map(lambda records: tf.io.parse_example(records, spec))
    sides = [np.max(list(batch.values()), axis=0) for batch in dataset.as_numpy_iterator()]
    return int(np.median(np.concatenate(sides))) if sides else 0


def seconds_a_view(patterns: Sequence[str], extractor: FeatureExtractor) -> float:
    """Measures the seconds of a forward pass of one view, after a pass that compiles it.

    Args:
        patterns: File patterns of the image examples of one split, with at least one image.
        extractor: Extractor to measure.
    """
    import tensorflow as tf

    images, hashes = next(_read(sorted(tf.io.gfile.glob(patterns))))
    names_of = [digest.decode() for digest in hashes]
    extractor.extract(images, names_of, [[0]] * len(images))
    # View 1 is in it, because augmentation is part of the cost of a view.
    started = time.perf_counter()
    extractor.extract(images, names_of, [[0, 1]] * len(images))
    return (time.perf_counter() - started) / (2 * len(images))


def _activations(
    files: Sequence[str],
    positions: npt.NDArray[np.int64],
    extractor: FeatureExtractor,
    each: int,
    over: Callable[[], bool],
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
    """Yield row numbers and activations in batches, without those whose number is -1."""
    numbers = list(range(each))
    done = 0
    for images, hashes in _read(files):
        if over():
            raise OutOfTime
        here = positions[done : done + len(images)]
        done += len(images)
        labelled = np.flatnonzero(here >= 0)
        if not len(labelled):
            continue
        rows = extractor.extract(
            [images[i] for i in labelled],
            [hashes[i].decode() for i in labelled],
            [numbers] * len(labelled),
        )
        maps = np.concatenate(rows)[:, extractor.dim :]  # the features stand before them
        first = each * here[labelled]
        yield (
            (first[:, None] + np.arange(each)).reshape(-1),
            maps.reshape(-1, *extractor.activation_shape),
        )


def _read(files: Sequence[str]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Yield the bytes and the content hashes of images in batches, in the order of the files."""
    import tensorflow as tf

    text = tf.io.FixedLenFeature([], tf.string)
    spec = {names.IMAGE_BYTES: text, names.IMAGE_HASH: text}
    dataset = tf.data.TFRecordDataset(list(files)).batch(_AT_ONCE)
    dataset = dataset.map(lambda records: tf.io.parse_example(records, spec)).prefetch(1)
    for batch in untuned(dataset).as_numpy_iterator():
        yield list(batch[names.IMAGE_BYTES]), list(batch[names.IMAGE_HASH])
