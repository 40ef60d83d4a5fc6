"""Reads records of labelled images, and of their features, in the order of the content hashes.

The order does not depend on how the records were distributed over files. So all that is computed
from the rows is the same in each run, and neighbouring rows are a random sample of the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Integers, Names

if TYPE_CHECKING:
    import tensorflow as tf

_NUMBERS: Final = (names.LABEL_INDEX, names.VIEW, names.NEAR_GROUP, names.WIDTH, names.HEIGHT)
#: Values of features that a record need not have.
_DEFAULTS: Final = {names.GROUP: "", **dict.fromkeys(_NUMBERS[1:], 0)}
_RECORDS_AT_ONCE: Final = 64
_IMAGES_AT_ONCE: Final = 32  # encoded images, which may be large


def record_batches(files: str | Sequence[str], at_once: int) -> tf.data.Dataset:
    """Create a dataset of the serialised records of TFRecord files.

    It yields the same as `tf.data.TFRecordDataset(files).batch(at_once)`, which however traces a
    function for the list of files and rewrites the graph of the dataset. This takes 13 ms, and a
    run reads a hundred files, most of which hold few records.

    Args:
        files: Path of a file, or the paths of several, which are read in this order.
        at_once: Largest number of records in a batch, which is a string tensor [n].
    """
    import tensorflow as tf

    paths = [files] if isinstance(files, str) else list(files)
    with tf.device("cpu"):
        read = tf.raw_ops.TFRecordDataset(
            filenames=tf.constant(paths, tf.string, [len(paths)]),
            compression_type="",
            buffer_size=256 << 10,
        )
        records = tf.data.experimental.from_variant(read, tf.TensorSpec([], tf.string))
        options = tf.data.Options()
        options.autotune.enabled = False  # see `process.untuned`
        options.experimental_optimization.apply_default_optimizations = False
        return records.batch(at_once).with_options(options)


def columns(
    files: Sequence[str], *wanted: str, at_once: int = _RECORDS_AT_ONCE
) -> Iterator[dict[str, Array]]:
    """Yield batches of records, each as a mapping from the feature's name to its column, [m].

    Args:
        files: TFRecord files of tf.Examples, which are read in this order; there may be none.
        *wanted: Names of features that every record has: int64 for numbers, and bytes for others.
            The groups, the view and the sides may be missing; they are then "" and 0.
        at_once: Largest number of records in a batch.
    """
    import tensorflow as tf

    if not files:
        return
    spec = {
        name: tf.io.FixedLenFeature(
            [], tf.int64 if name in _NUMBERS else tf.string, _DEFAULTS.get(name)
        )
        for name in wanted
    }
    for records in record_batches(files, at_once):
        parsed = tf.io.parse_example(records, spec)
        yield {name: column.numpy() for name, column in parsed.items()}


@dataclass(frozen=True)
class Labelled:
    """The labelled records of some files, sorted by the hash of the image and by the view.

    Attributes:
        files: The record files.
        places: For each record its row in this order, or -1 for a record that is left out, int64
            [records].
        hashes: Content hash of the image of each row, bytes [n].
        labels: Label index of each row, int64 [n].
        views: Number of the view of each row, int16 [n]; 0 is the image itself.
        groups: Group that the data source gives to each row's image, bytes [n]; b"" for none.
        near: Number of the group of near-duplicates, int64 [n]; 0 for none.
        sides: Longer side of each row's image in pixels, int64 [n]; 0 where it is not known.
    """

    files: Sequence[str]
    places: Integers
    hashes: Names
    labels: Integers
    views: Integers
    groups: Names
    near: Integers
    sides: Integers

    @classmethod
    def read(
        cls, patterns: Sequence[str], most_view: int | None = None, at_most: int | None = None
    ) -> Labelled:
        """Read everything but images and features.

        Args:
            patterns: File patterns of records.
            most_view: Highest view that is wanted; None is all of them.
            at_most: Number of records that are read; None is all of them.
        """
        import tensorflow as tf

        wanted = (names.IMAGE_HASH, names.GROUP, *_NUMBERS)
        none: list[Array] = [np.empty(0, "S1")] * 2 + [np.empty(0, np.int64)] * 5
        parts = [none]
        files = sorted(tf.io.gfile.glob(list(patterns)))
        count = 0
        for batch in columns(files, *wanted):
            parts.append([batch[n] if n in _NUMBERS else batch[n].astype("S") for n in wanted])
            count += len(batch[names.VIEW])
            if at_most is not None and count >= at_most:
                break
        hashes, groups, labels, views, near, widths, heights = (
            np.concatenate(column)[:at_most] for column in zip(*parts, strict=True)
        )
        order = np.lexsort((views, hashes))
        kept = labels[order] >= 0
        if most_view is not None:
            kept &= views[order] <= most_view
        order = order[kept]
        places = np.full(len(labels), -1, np.int64)
        places[order] = np.arange(len(order))
        given = (hashes, labels, views.astype(np.int16), groups, near, np.maximum(widths, heights))
        rows: list[Any] = [column[order] for column in given]
        return cls(files, places, *rows)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, keep: Flags) -> Labelled:
        """Return the rows for which `keep`, bool [n], is true."""
        # The last number is that of records that are left out, whose place is -1.
        new = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1)
        kept = {
            name: getattr(self, name)[keep]
            for name in ("hashes", "labels", "views", "groups", "near", "sides")
        }
        return replace(self, places=new[self.places], **kept)

    def first(self, count: int) -> Labelled:
        """Return the first rows, at most `count`."""
        return self.select(np.arange(len(self)) < count)

    def usual_side(self) -> int:
        """Return the median of the longer sides of the images in pixels; 0 if it is not known."""
        return int(np.median(self.sides)) if len(self) else 0

    def values(self, name: str) -> Iterator[tuple[Integers, Array]]:
        """Yield row numbers [m] and the values [m] of a feature, in the order of the files."""
        size = _IMAGES_AT_ONCE if name == names.IMAGE_BYTES else _RECORDS_AT_ONCE
        done = 0
        left = len(self)
        for batch in columns(self.files, name, at_once=size):
            here = self.places[done : done + size]
            done += size
            kept = np.flatnonzero(here >= 0)
            if len(kept):
                yield here[kept], batch[name][kept]
            left -= len(kept)
            if not left:
                return
