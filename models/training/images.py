"""Images for networks that train on pixels: they are decoded and resized once.

The pixels are stored as uint8; rounding changes a pixel by at most half a step of 255. Large arrays
go into a temporary file, so memory does not grow with the number of images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import augmentation, preprocess, progress
from imgpipe.models import feature_names as names
from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.dataset_tuning import untuned
from imgpipe.models.errors import DataRefused
from imgpipe.models.features.columns import columns
from imgpipe.models.features.row_file import RowFile
from imgpipe.models.training.datasets import Images

_AT_ONCE: Final = 16  # images in one batch of decoding

Integers = npt.NDArray[np.int64]


@contextlib.contextmanager
def decoded(
    patterns: Sequence[str], image_size: int, classes: int, views: ViewSpec
) -> Iterator[Images]:
    """Provide all labelled images of some record files, in the order of their content hashes.

    Args:
        patterns: File patterns of the records of one split.
        image_size: Side S of the decoded images in pixels.
        classes: Number of classes.
        views: The augmentation from which training draws its views.

    Yields:
        The images, uint8 [n, S, S, 3], with their labels and seeds; they are freed after the block.

    Raises:
        DataRefused: A label lies outside the vocabulary.
    """
    import tensorflow as tf

    files = sorted(tf.io.gfile.glob(patterns))
    positions, hashes, labels = in_order(files)
    if labels.size and labels.max() >= classes:
        raise DataRefused(
            f"images: label index {labels.max()}, the vocabulary has {classes} names. The images "
            "and the vocabulary come from different runs"
        )
    with RowFile(len(labels), (image_size, image_size, 3), np.uint8) as pixels:
        progress.total(len(pixels), "images")
        pixels.fill(_pixels(files, positions, image_size))
        seeds = augmentation.seeds([digest.decode() for digest in hashes])
        yield Images(pixels, labels, np.array(seeds, np.int64), views)


def in_order(files: Sequence[str]) -> tuple[Integers, npt.NDArray[np.bytes_], Integers]:
    """Sorts the labelled images of record files by their content hashes.

    The order does not depend on how the records were distributed over the files.

    Returns:
        Three arrays: for each record the position of its image in this order, or -1 if it has no
        label, int64 [records]; the content hashes in this order, [n]; the labels in this order,
        int64 [n].
    """
    read_hashes: list[npt.NDArray[Any]] = [np.empty(0, "S1")]
    read_labels: list[Integers] = [np.empty(0, np.int64)]
    for batch in columns(files, names.IMAGE_HASH, names.LABEL_INDEX):
        read_hashes.append(batch[names.IMAGE_HASH].astype("S"))
        read_labels.append(batch[names.LABEL_INDEX])
    hashes, labels = np.concatenate(read_hashes), np.concatenate(read_labels)
    order = np.argsort(hashes, kind="stable")
    order = order[labels[order] >= 0]
    positions = np.full(len(labels), -1, np.int64)
    positions[order] = np.arange(len(order))
    return positions, hashes[order], labels[order]


def _pixels(
    files: Sequence[str], positions: Integers, image_size: int
) -> Iterator[tuple[Integers, npt.NDArray[np.uint8]]]:
    """Yield row numbers and pixels of the records in batches, without those whose number is -1."""
    import tensorflow as tf

    spec = {names.IMAGE_BYTES: tf.io.FixedLenFeature([], tf.string)}

    def load(position: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.parse_single_example(record, spec)[names.IMAGE_BYTES]
        return position, preprocess.whole_pixels(image, image_size)

    dataset = tf.data.Dataset.zip(
        (tf.data.Dataset.from_tensor_slices(positions), tf.data.TFRecordDataset(list(files)))
    )
    dataset = dataset.filter(
        lambda position, _: position >= 0
    )  # before decoding, which is expensive
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(_AT_ONCE).prefetch(2)
    for places_here, images in untuned(dataset).as_numpy_iterator():
        yield places_here, images
        progress.advance(len(images), "images")
