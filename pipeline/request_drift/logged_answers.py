"""The answers in the request log of a server, each with the image that it is about.

The server appends to the log and removes its oldest file while it is read. A file that ends in the
middle of a record, or that disappears, is noted; the records before that count.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.components.common.formatting import plural
from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.example_gen.sources.images import FileReader, Item, Reader
from imgpipe.components.example_gen.sources.records import DamagedRecordError, verified
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.serving import request_log_files, tensors

SKIPPED = "skipped_records"  # reason of a finding
_NO_LOG = "no PredictionLog"
_NO_ANSWER = "no label and probabilities for each image"
_BATCHED = 2  # dimensions of the probabilities: [N, C]


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """The answer of a model to one image.

    Attributes:
        version: Number of the version that answered.
        time: Time of the answer, seconds since 1970.
        label: The label as answered.
        confidence: The highest probability; 0 if they are not numbers.
        classes: Number of classes of the model.
        item: The image, with its hash; None if the log does not hold it.
    """

    version: int
    time: int
    label: str
    confidence: float
    classes: int
    item: Item | None


@dataclass
class LoggedAnswers:
    """The log at a path: a file, a folder of files, or the prefix that a server was given.

    Attributes:
        path: The path.
        records_read: Number of records that `answers` has read last, with those that it skipped.
    """

    path: Path
    records_read: int = 0

    @property
    def reader(self) -> Reader:
        """The reader of the images, which stand in the records as they are."""
        return FileReader("/", follow_links=True)

    def answers(self, notes: Notes) -> Iterator[LoggedAnswer]:
        """Read all answers, with one record in memory at a time.

        Args:
            notes: What could not be read is added to it.

        Yields:
            One answer for each image of each request, the oldest first.

        Raises:
            ConfigError: There is no file.
        """
        from google.protobuf.message import DecodeError

        self.records_read = 0
        for file in self.files():
            records_read = 0
            skipped: collections.Counter[str] = collections.Counter()
            try:
                for offset, record in verified(file):
                    records_read += 1
                    self.records_read += 1
                    try:
                        yield from _answers(record, offset, file)
                    except DecodeError:
                        skipped[_NO_LOG] += 1
                    except tensors.TensorError:
                        skipped[_NO_ANSWER] += 1
            except (DamagedRecordError, OSError) as error:
                detail = f"breaks off after {plural(records_read, 'record')}: {error}"
                notes.add("broken_log", file.name, detail)
            for why, number in skipped.items():
                notes.add(SKIPPED, file.name, why, number)

    def files(self) -> list[Path]:
        """List the files, the oldest first.

        Raises:
            ConfigError: There is no file.
        """
        path = self.path.expanduser().absolute()
        if path.is_file():
            return [path]
        dated_files = []
        inside = path.glob(f"*{request_log_files.SUFFIX}")
        for file in inside if path.is_dir() else request_log_files.of_prefix(path):
            try:
                dated_files.append((file.stat().st_mtime_ns, file))
            except OSError:  # the server removed it just now
                continue
        if not dated_files:
            raise ConfigError(
                f"no request log at {path}. Expected: a file, a folder with "
                f"*{request_log_files.SUFFIX}, or the prefix that `imgpipe serve --request-log "
                "PREFIX` was given, after the server has logged a request (--log-share 1 logs all)."
            )
        return [file for _, file in sorted(dated_files)]


def _answers(record: bytes, offset: int, file: Path) -> Iterator[LoggedAnswer]:
    """Yield the answers in the record that begins at a byte of a file.

    Raises DecodeError if it is no log of a request, and TensorError without a label and
    probabilities for each image.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog.FromString(record)
    outputs = log.predict_log.response.outputs
    if names.LABEL not in outputs or names.PROBABILITIES not in outputs:
        raise tensors.TensorError(_NO_ANSWER)
    labels = outputs[names.LABEL].string_val
    probabilities = tensors.to_array(outputs[names.PROBABILITIES])
    is_table = probabilities.ndim == _BATCHED and probabilities.dtype.kind == "f"
    if not is_table or len(probabilities) != len(labels):
        raise tensors.TensorError(_NO_ANSWER)
    confidence = np.nan_to_num(probabilities).max(axis=1, initial=0.0)
    images = _images(log.predict_log.request, len(labels))
    end = 0
    for label, image, probability in zip(labels, images, confidence, strict=True):
        item = None
        if image:
            # The bytes of an image stand in the record as they are, in the order of the rows.
            begin = record.find(image, end)
            end = begin + len(image)
            item = Item(
                f"{file.name}/{offset + begin:012d}",
                sha256=hashlib.sha256(image).hexdigest(),
                part=f"{offset + begin}:{len(image)}:{file}",
            )
        yield LoggedAnswer(
            log.log_metadata.model_spec.version.value,
            log.log_metadata.timestamp_secs,
            label.decode(errors="replace"),
            float(probability),
            probabilities.shape[1],
            item,
        )


def _images(request: Any, rows: int) -> list[bytes]:
    """Return the encoded images of a request, all empty where they are not one for each row."""
    inputs = request.inputs
    images = list(inputs[names.IMAGE_BYTES].string_val) if names.IMAGE_BYTES in inputs else []
    return images if len(images) == rows else [b""] * rows
