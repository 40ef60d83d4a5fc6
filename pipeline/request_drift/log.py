"""Reads the request log of the embedded server, record by record.

The server appends to the log and removes its oldest file while it is read. A file that ends in the
middle of a record, or that disappears, is reported by name; the records before that count.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from imgpipe.components.image_file.content import first_line
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.serving import request_log_files, tensors
from imgpipe.serving.request_log_files import SUFFIX

if TYPE_CHECKING:
    import numpy as np

_CLASSES = "classes"  # output with the vocabulary in each row, beside `names.PROBABILITIES`
_EXAMPLES = "examples"  # input of the signature that takes tf.Examples
_SHOWN = 5  # classes named in a message
_BATCHED = 2  # dimensions of the probabilities: [N, C]

#: Reasons why a record is skipped.
NO_LOG = "no PredictionLog"
NO_ANSWER = "no probabilities in it"
OTHER_CLASSES = "other classes"
REMOVED = "removed version with other classes"
UNREADABLE = "unreadable tensors"


@dataclass(frozen=True, slots=True)
class Location:
    """The location of an image in the log."""

    file: int  # index in the list of files
    record: int  # index in the file
    row: int  # index in the batch of the request


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of the model for one image."""

    location: Location
    version: int
    time: int  # seconds since 1970
    label: str  # as answered, possibly `names.UNKNOWN`
    probabilities: np.ndarray  # float32 [C]
    classes: Sequence[str]  # names of the C classes
    image: bytes | None  # encoded; None if the log does not hold it


@dataclass(frozen=True)
class Broken:
    """A file that could not be read to its end."""

    file: str
    records: int  # number of readable records before the error
    error: str

    def sentence(self) -> str:
        """Describe the damage to people."""
        return f"{self.file} breaks off after {self.records:,} records: {self.error}"


@dataclass
class ReadStatistics:
    """Counts of what was read, and of what could not be used."""

    records: int = 0
    skipped: collections.Counter[str] = field(default_factory=collections.Counter)
    classes: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    broken: list[Broken] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)  # versions whose records were `REMOVED`


def find(path: Path) -> list[Path]:
    """List the files of a log, the oldest first.

    Args:
        path: A file, a folder of files, or the prefix that the server was given.

    Returns:
        The paths of the files.

    Raises:
        ConfigError: There is no file.
    """
    path = path.expanduser()
    if path.is_file():
        return [path]
    found = []
    for file in path.glob(f"*{SUFFIX}") if path.is_dir() else request_log_files.of_prefix(path):
        try:
            found.append((file.stat().st_mtime_ns, file))
        except OSError:  # the server removed it just now
            continue
    if not found:
        raise ConfigError(
            f"no request log at {path}. Expected: a file, a folder with *{SUFFIX}, or the prefix "
            "that `imgpipe serve --request-log PREFIX` was given, after the server has logged a "
            "request (--log-share 1 logs all)."
        )
    return [file for _, file in sorted(found)]


@dataclass(frozen=True)
class Model:
    """The classes of each version of a model, in the order of the probabilities."""

    classes: Mapping[int, tuple[str, ...]]  # by version

    def of(self, version: int) -> tuple[str, ...]:
        """Classes of one version; those of the newest version if it was removed."""
        # Most often, versions of one model have the same classes. Where they do not, `_answered`
        # skips the record, because the number or the names of the classes differ.
        return self.classes.get(version) or self.classes[max(self.classes)]


def read(
    files: Sequence[Path],
    model: Model,
    statistics: ReadStatistics,
    only: Set[tuple[int, int]] | None = None,
) -> Iterator[Answer]:
    """Read all answers of a model, with one record in memory at a time.

    Args:
        files: Files of the log, as `find` lists them.
        model: Model whose answers are read.
        statistics: Counts that are updated while reading.
        only: File and record indices of the wanted records; others are skipped without parsing.
            None for all.

    Yields:
        One answer for each image of each request.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    for number, path in enumerate(files):
        for index, content in _records(path, statistics):
            statistics.records += 1
            if only is not None and (number, index) not in only:
                continue
            try:
                log = prediction_log_pb2.PredictionLog.FromString(content)
                about = log.log_metadata
                classes = model.of(about.model_spec.version.value)
                found = _answered(log, model, statistics)
                if found is None:
                    continue
                probabilities, labels = found
                images = _images(log.predict_log.request, len(labels))
            except tensors.TensorError:
                statistics.skipped[UNREADABLE] += 1
                continue
            except DecodeError:
                statistics.skipped[NO_LOG] += 1
                continue
            for row, label in enumerate(labels):
                yield Answer(
                    Location(number, index, row),
                    about.model_spec.version.value,
                    about.timestamp_secs,
                    label,
                    probabilities[row],
                    classes,
                    images.get(row),
                )


def refusal(statistics: ReadStatistics, where: Path, model: Model) -> ImgpipeError:
    """Make the error for a log that holds no answer of the model.

    Args:
        statistics: Counts of what was read.
        where: Path of the log, for the message.
        model: Model whose answers were expected.

    Returns:
        A ResourceError if the log is empty. A ConfigError if it is the log of another model, or no
        request log.
    """
    broken = "".join(f" {found.sentence()}." for found in statistics.broken)
    if not statistics.records:
        return ResourceError(
            f"the request log {where} is empty.{broken} Send requests to the server first; its "
            "option --log-share sets the share of the requests that are logged."
        )
    if statistics.classes:
        ((other, _),) = statistics.classes.most_common(1)
        whose = "another model or a removed version" if statistics.removed else "another model"
        return ConfigError(
            f"{where} is the log of {whose}, with the classes {_listed(other) or 'unknown'}; "
            f"expected {_listed(model.of(0))}. Name the folder of the logged model with --model."
        )
    why = ", ".join(f"{count:,} × {reason}" for reason, count in statistics.skipped.most_common())
    return ConfigError(
        f"{where} holds no answers of an image classifier: {why}. Expected PredictionLog records "
        f"with the outputs {_CLASSES!r} and {names.PROBABILITIES!r}."
    )


def _listed(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - _SHOWN} more classes" if len(classes) > _SHOWN else ""
    return ", ".join(classes[:_SHOWN]) + more


def _records(path: Path, statistics: ReadStatistics) -> Iterator[tuple[int, bytes]]:
    """Yield the records of one file with their indices, up to its end or to the first error."""
    import tensorflow as tf

    count = 0
    with tf.device("cpu"):  # a GPU would only be claimed
        try:
            for content in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                yield count, content
                count += 1
        except tf.errors.OpError as error:
            statistics.broken.append(Broken(str(path), count, first_line(error)))


def _answered(
    log: Any, model: Model, statistics: ReadStatistics
) -> tuple[np.ndarray, list[str]] | None:
    """Probabilities [N, C] and labels [N] of a record; None if it is not of this model."""
    kind = log.WhichOneof("log_type")
    if kind != "predict_log":
        statistics.skipped[NO_ANSWER if kind else NO_LOG] += 1
        return None
    outputs = log.predict_log.response.outputs
    if names.PROBABILITIES not in outputs:
        statistics.skipped[NO_ANSWER] += 1
        return None
    probabilities = tensors.to_array(outputs[names.PROBABILITIES])
    if probabilities.ndim != _BATCHED:
        raise tensors.TensorError("probabilities are not [N, C]")
    width = probabilities.shape[1]
    values = outputs[_CLASSES].string_val[:width] if _CLASSES in outputs else ()
    named = tuple(name.decode(errors="replace") for name in values)
    version = log.log_metadata.model_spec.version.value
    vocabulary = model.of(version)
    if width != len(vocabulary) or (named and named != vocabulary):
        if version in model.classes:
            statistics.skipped[OTHER_CLASSES] += 1
        else:
            statistics.skipped[REMOVED] += 1
            statistics.removed.add(version)
        statistics.classes[named] += 1
        return None
    return probabilities, _labels(outputs, probabilities, vocabulary)


def _labels(
    outputs: Mapping[str, Any], probabilities: np.ndarray, vocabulary: Sequence[str]
) -> list[str]:
    """Labels as answered, or the most probable classes if the request did not ask for labels."""
    if names.LABEL not in outputs:
        return [vocabulary[top] for top in probabilities.argmax(axis=1)]
    found = outputs[names.LABEL].string_val
    if len(found) != len(probabilities):
        raise tensors.TensorError("labels and probabilities differ in number")
    return [label.decode(errors="replace") for label in found]


def _images(request: Any, rows: int) -> dict[int, bytes]:
    """Return the encoded images of a request by row; empty if the log does not hold them."""
    inputs = request.inputs
    if names.IMAGE_BYTES in inputs:
        found = list(inputs[names.IMAGE_BYTES].string_val)
    elif _EXAMPLES in inputs:
        found = [_of_example(item) for item in inputs[_EXAMPLES].string_val]
    else:
        return {}
    if len(found) != rows:  # it is not known which answer belongs to which image
        return {}
    return {row: image for row, image in enumerate(found) if image}


def _of_example(item: bytes) -> bytes:
    import tensorflow as tf

    return records.raw(tf.train.Example.FromString(item), names.IMAGE_BYTES)
