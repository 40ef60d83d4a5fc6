"""Beam transforms that read and write Examples artifacts, shared by all components."""

from typing import Any

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2

from imgpipe.components.common.storage.records import (
    FILE_PREFIX,
    SPLIT_NAMES_JSON,
    read_records,
    shard_files,
)
from imgpipe.models import feature_names as names


def mark_examples(artifact: Any) -> None:
    """Record on an Examples artifact that its files hold tf.Examples of all three splits."""
    artifact.split_names = SPLIT_NAMES_JSON
    examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)


class WriteSplits(beam.PTransform):
    """Writes (split, serialised tf.Example) pairs below `uri`, with one folder for each split.

    A split without Examples gets an empty file, so that readers find every split.
    """

    def __init__(self, uri: str, splits: tuple[str, ...], prefix: str = FILE_PREFIX) -> None:
        super().__init__()
        self._uri = uri
        self._splits = splits
        self._prefix = prefix

    def expand(self, pairs: Any) -> None:
        """Partition the pairs by split and write each split."""
        splits = self._splits
        parts = pairs | beam.Partition(lambda pair, n: splits.index(pair[0]), len(splits))
        for split, part in zip(splits, parts, strict=True):
            path = f"{self._uri}/Split-{split}/{self._prefix}"
            values = part | f"Value[{split}]" >> beam.Values()
            _ = values | f"Write[{split}]" >> beam.io.WriteToTFRecord(path)


class ReadSplits(beam.PTransform):
    """Reads all serialised tf.Examples of the given splits of an Examples artifact.

    The elements are files, and each worker reads the Examples from its files. A Flatten of one
    read for each split would be materialised by the in-process runner, which took four times the
    size of the data set in memory when measured.
    """

    def __init__(self, uri: str, splits: tuple[str, ...] = names.SPLITS) -> None:
        super().__init__()
        self._files = [path for split in splits for path in shard_files(uri, split)]

    def expand(self, pipeline: Any) -> Any:
        """Distribute the files over the workers and read them there."""
        files = pipeline | "Files" >> beam.Create(self._files, reshuffle=True)
        return files | "Records" >> beam.FlatMap(read_records)
