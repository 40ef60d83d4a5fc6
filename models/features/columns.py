"""Reads records as columns: the values of one feature of many tf.Examples form one array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.files.record_batches import record_batches

_RECORDS_AT_ONCE: Final = 256
_WHOLE_NUMBERS: Final = (names.LABEL_INDEX, names.VIEW, names.NEAR_GROUP)
_DEFAULTS: Final = {names.GROUP: "", names.NEAR_GROUP: 0}


def columns(files: Sequence[str], *wanted: str) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield batches of records, each as a mapping from the feature's name to its column.

    Args:
        files: TFRecord files of tf.Examples, which are read in this order. With no files, nothing
            is yielded.
        *wanted: Names of features that every record has. Only the groups may be missing; they
            are then "" and 0.

    Yields:
        For each feature, an array [n] of at most 256 values: int64 for the label index, the
        view and the group of near-duplicates, and objects of type bytes for all others.
    """
    import tensorflow as tf

    if not files:
        return
    spec = {
        name: tf.io.FixedLenFeature(
            [], tf.int64 if name in _WHOLE_NUMBERS else tf.string, _DEFAULTS.get(name)
        )
        for name in wanted
    }
    for records in record_batches(files, _RECORDS_AT_ONCE):
        parsed = tf.io.parse_example(records, spec)
        yield {name: column.numpy() for name, column in parsed.items()}
