"""Beam's way in and out of Examples artifacts, the same in every component."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2

from imgpipe.components.records import SPLIT_NAMES_JSON, shard_files
from imgpipe.models import feature_names as names

FILE_PREFIX = "data_tfrecord"


def mark_examples(artifact: Any) -> None:
    """Declare on an Examples artifact what its files hold: tf.Examples, all three splits."""
    artifact.split_names = SPLIT_NAMES_JSON
    examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)


class WriteSplits(beam.PTransform):
    """Write (split, serialised tf.Example) pairs below `uri`, one folder a split.

    All splits get a file, also when nothing goes into them, so that readers find every split.
    """

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri = uri

    def expand(self, pairs: Any) -> None:
        """Fan out by split."""
        parts = pairs | "BySplit" >> beam.Partition(
            lambda pair, n: names.SPLITS.index(pair[0]), len(names.SPLITS)
        )
        for split, part in zip(names.SPLITS, parts, strict=True):
            _ = (
                part
                | f"Value[{split}]" >> beam.Values()
                | f"Write[{split}]"
                >> beam.io.WriteToTFRecord(f"{self._uri}/Split-{split}/{FILE_PREFIX}")
            )


class ReadSplits(beam.PTransform):
    """All serialised tf.Examples of the given splits of an Examples artifact.

    Files are the elements and records come out of them where they are used. A Flatten of one read
    a split would be materialised by the in-process runner: four times the bytes of the data set
    in memory (measured).
    """

    def __init__(self, uri: str, splits: tuple[str, ...] = names.SPLITS) -> None:
        super().__init__()
        self._uri = uri
        self._splits = splits

    def expand(self, pipeline: Any) -> Any:
        """Spread the files over the workers, read each."""
        files = [path for split in self._splits for path in shard_files(self._uri, split)]
        return (
            pipeline
            | "Files" >> beam.Create(files, reshuffle=True)
            | "Records" >> beam.FlatMap(_records)
        )


def _records(path: str) -> Iterator[bytes]:
    import tensorflow as tf

    yield from tf.data.TFRecordDataset(path).as_numpy_iterator()
