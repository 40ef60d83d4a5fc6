"""Records read as columns: one feature of many tf.Examples as an array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy.typing as npt

from imgpipe.models import feature_names as names

_RECORDS_AT_ONCE: Final = 256
_WHOLE_NUMBERS: Final = (names.LABEL_INDEX, names.VIEW)
_DEFAULTS: Final = {names.GROUP: ""}


def columns(files: Sequence[str], *wanted: str) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Batches of records as columns [n]: int64 of whole numbers, objects of bytes.

    Args:
        files: TFRecord files of tf.Examples, in this order; none gives no batches.
        wanted: Names of features that every record has. `GROUP` may be absent, which reads as b"".
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
    dataset = tf.data.TFRecordDataset(list(files)).batch(_RECORDS_AT_ONCE)
    yield from dataset.map(lambda records: tf.io.parse_example(records, spec)).as_numpy_iterator()
