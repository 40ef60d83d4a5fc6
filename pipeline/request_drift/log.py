"""Reads the request log of the embedded server, and counts the answers of each version.

The server appends to the log and removes its oldest file while it is read. A file that ends in the
middle of a record, or that disappears, is reported by name; the records before that count. A few
bytes for each answer and 16 bytes for each different image, but no image, stay in memory.
"""

from __future__ import annotations

import collections
import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from google.protobuf.message import DecodeError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError, first_line
from imgpipe.models.names import feature_names as names
from imgpipe.serving import request_log_files, tensors
from imgpipe.serving.request_log_files import SUFFIX

_CLASSES = "classes"  # output with the vocabulary in each row, beside `names.PROBABILITIES`
_SHOWN = 5  # classes named in a message
_BATCHED = 2  # dimensions of the probabilities: [N, C]
#: Bytes of the SHA-256 of an image by which equal images are recognised; the first of the 32 are
#: enough, and less memory.
_DIGEST = 16

#: Reasons why a record is skipped.
NO_LOG = "no PredictionLog"
NO_ANSWER = "no probabilities in it"
OTHER_CLASSES = "other classes"
UNREADABLE = "unreadable tensors"
#: Classes of each version of a model, in the order of the probabilities.
Vocabularies = Mapping[int, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Location:
    """The location of an image in the log."""

    file: int  # index in the list of files
    record: int  # index in the file
    row: int  # index in the batch of the request


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """The answer of the model for one image."""

    location: Location
    version: int
    time: int  # seconds since 1970
    label: str  # as answered, possibly `names.UNKNOWN`
    confidence: float  # the highest probability; 0 if they are not numbers
    image: bytes | None  # encoded; None if the log does not hold it


class BrokenFile(TypedDict):
    """A file of the log that breaks off."""

    file: Annotated[str, "Path of the file."]
    records: Annotated[int, "Number of records before the error."]
    error: Annotated[str, "The error."]


def damage(broken: BrokenFile) -> str:
    """Describe to people where a file breaks off."""
    return f"{broken['file']} breaks off after {broken['records']:,} records: {broken['error']}"


@dataclass
class ReadStatistics:
    """Counts of what was read, and of what could not be used."""

    records: int = 0
    skipped: collections.Counter[str] = field(default_factory=collections.Counter)
    other_classes: tuple[str, ...] = ()  # classes of another model whose answers the log holds
    broken: list[BrokenFile] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)  # versions that no longer exist


@dataclass
class VersionRequests:
    """The requests and answers of one version."""

    version: int
    labels: collections.Counter[str] = field(default_factory=collections.Counter)
    confidence: array[float] = field(default_factory=lambda: array("f"))
    images: int = 0  # number of answers whose image the log holds
    locations: list[Location] = field(default_factory=list)  # first one of each different image
    first: int = 0  # time of the first answer, seconds since 1970
    last: int = 0  # time of the last answer

    @property
    def answers(self) -> int:
        """Number of answers; a request for N images has N of them."""
        return len(self.confidence)

    @property
    def unknown(self) -> float:
        """Share of the answers that are "unknown", 0..1."""
        return self.labels[names.UNKNOWN] / max(self.answers, 1)


def survey(answers: Iterable[LoggedAnswer]) -> dict[int, VersionRequests]:
    """Read all answers once, and count them by version."""
    versions: dict[int, VersionRequests] = {}
    seen: set[tuple[int, bytes]] = set()
    for answer in answers:
        new = VersionRequests(answer.version, first=answer.time)
        requests = versions.setdefault(answer.version, new)
        requests.labels[answer.label] += 1
        requests.confidence.append(answer.confidence)
        requests.first = min(requests.first, answer.time)
        requests.last = max(requests.last, answer.time)
        if answer.image is None:
            continue
        requests.images += 1
        key = answer.version, hashlib.sha256(answer.image).digest()[:_DIGEST]
        if key not in seen:
            seen.add(key)
            requests.locations.append(answer.location)
    return versions


def log_files(path: Path) -> list[Path]:
    """List the files of a log, the oldest first.

    Args:
        path: A file, a folder of files, or the prefix that the server was given.

    Raises:
        ConfigError: There is no file.
    """
    path = path.expanduser()
    if path.is_file():
        return [path]
    dated_files = []
    for file in path.glob(f"*{SUFFIX}") if path.is_dir() else request_log_files.of_prefix(path):
        try:
            dated_files.append((file.stat().st_mtime_ns, file))
        except OSError:  # the server removed it just now
            continue
    if not dated_files:
        raise ConfigError(
            f"no request log at {path}. Expected: a file, a folder with *{SUFFIX}, or the prefix "
            "that `imgpipe serve --request-log PREFIX` was given, after the server has logged a "
            "request (--log-share 1 logs all)."
        )
    return [file for _, file in sorted(dated_files)]


def read(
    files: Sequence[Path],
    vocabularies: Vocabularies,
    statistics: ReadStatistics,
    only: Set[tuple[int, int]] | None = None,
) -> Iterator[LoggedAnswer]:
    """Read all answers of a model, with one record in memory at a time.

    Args:
        files: Files of the log, as `log_files` lists them.
        vocabularies: Classes of the versions whose answers are read.
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
                yield from _answers(log, (number, index), vocabularies, statistics)
            except tensors.TensorError:
                statistics.skipped[UNREADABLE] += 1
            except DecodeError:
                statistics.skipped[NO_LOG] += 1


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
            broken: BrokenFile = {"file": str(path), "records": count, "error": first_line(error)}
            statistics.broken.append(broken)


def _answers(
    log: Any, place: tuple[int, int], vocabularies: Vocabularies, statistics: ReadStatistics
) -> Iterator[LoggedAnswer]:
    """Yield the answers of one record; none if it is not of this model."""
    outputs = log.predict_log.response.outputs
    version = log.log_metadata.model_spec.version.value
    if names.PROBABILITIES not in outputs:
        statistics.skipped[NO_ANSWER if log.WhichOneof("log_type") else NO_LOG] += 1
        return
    if version not in vocabularies:
        statistics.gone.add(version)
        return
    probabilities = tensors.to_array(outputs[names.PROBABILITIES])
    if probabilities.ndim != _BATCHED:
        raise tensors.TensorError("probabilities are not [N, C]")
    rows, width = probabilities.shape
    vocabulary = tuple(vocabularies[version])
    said = outputs[_CLASSES].string_val[:width] if _CLASSES in outputs else ()
    classes = tuple(name.decode(errors="replace") for name in said)
    if width != len(vocabulary) or (classes and classes != vocabulary):
        statistics.skipped[OTHER_CLASSES] += 1
        statistics.other_classes = classes
        return
    if names.LABEL in outputs:
        labels = [label.decode(errors="replace") for label in outputs[names.LABEL].string_val]
    else:  # the request did not ask for them
        labels = [vocabulary[top] for top in probabilities.argmax(axis=1)]
    if len(labels) != rows:
        raise tensors.TensorError("labels and probabilities differ in number")
    inputs = log.predict_log.request.inputs
    images = list(inputs[names.IMAGE_BYTES].string_val) if names.IMAGE_BYTES in inputs else []
    if len(images) != rows:  # it is not known which answer belongs to which image
        images = [b""] * rows
    confidence = np.nan_to_num(probabilities).max(axis=1)
    time = log.log_metadata.timestamp_secs
    for row, (label, image) in enumerate(zip(labels, images, strict=True)):
        where = Location(*place, row)
        yield LoggedAnswer(where, version, time, label, float(confidence[row]), image or None)


def refusal(statistics: ReadStatistics, where: Path, vocabularies: Vocabularies) -> ImgpipeError:
    """Make the error for a log that holds no answer of the model.

    Args:
        statistics: Counts of what was read.
        where: Path of the log, for the message.
        vocabularies: Classes of the versions whose answers were expected.

    Returns:
        A ResourceError if the log is empty or all versions that answered were removed. A
        ConfigError if it is the log of another model, or no request log.
    """
    if not statistics.records:
        broken = "".join(f" {damage(file)}." for file in statistics.broken)
        return ResourceError(
            f"the request log {where} is empty.{broken} Send requests to the server first; its "
            "option --log-share sets the share of the requests that are logged."
        )
    name = "Name the folder of the model that answered with --model."
    if statistics.skipped[OTHER_CLASSES]:
        expected = _listed(vocabularies[max(vocabularies)])
        return ConfigError(
            f"{where} is the log of another model, with the classes "
            f"{_listed(statistics.other_classes) or 'unknown'}; expected {expected}. {name}"
        )
    if statistics.gone:
        return ResourceError(
            f"the log has answers of version {', '.join(map(str, sorted(statistics.gone)))}; there "
            f"are only versions {', '.join(map(str, sorted(vocabularies)))}. {name}"
        )
    why = ", ".join(f"{count:,} × {reason}" for reason, count in statistics.skipped.most_common())
    return ConfigError(
        f"{where} holds no answers of an image classifier: {why}. Expected PredictionLog records "
        f"with the outputs {_CLASSES!r} and {names.PROBABILITIES!r}."
    )


def _listed(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - _SHOWN} more classes" if len(classes) > _SHOWN else ""
    return ", ".join(classes[:_SHOWN]) + more
