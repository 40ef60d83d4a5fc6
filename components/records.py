"""Reading and writing tf.Examples and split folders, the same way in every component."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from models import feature_names as names

FILE_PREFIX = "data_tfrecord"


def split_uri(uri: str, split: str) -> str:
    """Folder of one split of an Examples artifact."""
    return f"{uri}/Split-{split}"


def pattern(uri: str, split: str) -> str:
    """File pattern of one split of an Examples artifact."""
    return f"{split_uri(uri, split)}/{FILE_PREFIX}-*"


def mark_examples(artifact: Any) -> None:
    """Declare on an Examples artifact what `WriteSplits` puts into it."""
    artifact.split_names = artifact_utils.encode_split_names(list(names.SPLITS))
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
                >> beam.io.WriteToTFRecord(f"{split_uri(self._uri, split)}/{FILE_PREFIX}")
            )


class ReadSplits(beam.PTransform):
    """All serialised tf.Examples of the given splits of an Examples artifact."""

    def __init__(self, uri: str, splits: tuple[str, ...] = names.SPLITS) -> None:
        super().__init__()
        self._uri = uri
        self._splits = splits

    def expand(self, pipeline: Any) -> Any:
        """Read and flatten."""
        return [
            pipeline | f"Read[{split}]" >> beam.io.ReadFromTFRecord(pattern(self._uri, split))
            for split in self._splits
        ] | beam.Flatten()


def iterate(uri: str, split: str) -> Iterator[tf.train.Example]:
    """Examples of one split, one at a time, in the order of the files."""
    for file in sorted(tf.io.gfile.glob(pattern(uri, split))):
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            yield tf.train.Example.FromString(record)


def text(example: tf.train.Example, name: str) -> str:
    """A bytes feature as text, "" when absent."""
    values = example.features.feature[name].bytes_list.value
    return values[0].decode("utf-8", "replace") if values else ""


def raw(example: tf.train.Example, name: str) -> bytes:
    """A bytes feature, empty when absent."""
    values = example.features.feature[name].bytes_list.value
    return values[0] if values else b""


def integer(example: tf.train.Example, name: str, default: int = 0) -> int:
    """An int64 feature, `default` when absent."""
    values = example.features.feature[name].int64_list.value
    return int(values[0]) if values else default


def floats(example: tf.train.Example, name: str) -> list[float]:
    """A float list feature."""
    return list(example.features.feature[name].float_list.value)


def make(**features: bytes | str | int | float | list[float]) -> tf.train.Example:
    """A tf.Example from keyword values; text becomes UTF-8 bytes, lists become float lists."""
    example = tf.train.Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        elif isinstance(value, list):
            feature.float_list.value.extend(value)
        else:
            feature.float_list.value.append(value)
    return example


def serialise(example: tf.train.Example) -> bytes:
    """Bytes that are the same for equal records, whatever the map order."""
    return example.SerializeToString(deterministic=True)


def write_json(path: str, value: Any) -> None:
    """Write `value` as JSON to a local or remote path."""
    tf.io.gfile.makedirs(str(Path(path).parent) if "://" not in path else path.rsplit("/", 1)[0])
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: str) -> Any:
    """Read JSON from a local or remote path."""
    with tf.io.gfile.GFile(path, "r") as file:
        return json.loads(file.read())
