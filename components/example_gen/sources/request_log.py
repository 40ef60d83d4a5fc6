"""The request log of a server as a source, `log:PREFIX`: its images, with the answers as labels.

The server appends to the log and removes its oldest file while it is read. A file that ends in the
middle of a record, or that disappears, is noted; the records before that count. Nobody has
confirmed the labels, so that nothing is trained or evaluated with them.
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
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources import records
from imgpipe.components.example_gen.sources.base import Item, SourceKind
from imgpipe.components.example_gen.sources.rows import RowsSource, SourceRow, SourceTable
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.finding import Finding
from imgpipe.models.settings.data import DataSettings
from imgpipe.serving import request_log_files, tensors

KIND = "log"  # prefix of the spec
_EXPECTED = (
    "expected the answers of an image classifier with their images, which a server logs with "
    "--log-images"
)
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


class LogSource(RowsSource):
    """The log at a path: a file, a folder of files, or the prefix that a server was given."""

    expected = _EXPECTED
    prefix = f"{KIND}:"
    records_read = 0
    """Number of records that `answers` has read last, with those that it skipped."""

    def tables(self) -> list[SourceTable]:
        """Read all records once; see `RowsSource.tables`."""
        notes: list[Finding] = []
        rows = [
            SourceRow("", answer.item.path, answer.item.locator, answer.label)
            for answer in self.answers(notes)
            if answer.item is not None
        ]
        why = "nobody has confirmed these answers of a model, so that a run refuses them"
        notes.append(noted("answers_as_labels", self.locator, why, len(rows)))
        return [
            SourceTable(
                self.locator, rows, notes=notes, classes=sorted({row.label for row in rows})
            )
        ]

    def read_row(self, item: Item) -> bytes:
        """Read one image; see `Source.read`."""
        offset, length, file = item.locator.split(":", 2)
        return records.read_part(Path(file), int(offset), int(length))

    def answers(self, notes: list[Finding]) -> Iterator[LoggedAnswer]:
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
                for offset, record in records.verified(file):
                    records_read += 1
                    self.records_read += 1
                    try:
                        yield from _answers(record, offset, file)
                    except DecodeError:
                        skipped[_NO_LOG] += 1
                    except tensors.TensorError:
                        skipped[_NO_ANSWER] += 1
            except (records.DamagedRecordError, OSError) as error:
                detail = f"breaks off after {plural(records_read, 'record')}: {error}"
                notes.append(noted("broken_log", file.name, detail))
            for why, number in skipped.items():
                notes.append(noted(SKIPPED, file.name, why, number))

    def files(self) -> list[Path]:
        """List the files, the oldest first.

        Raises:
            ConfigError: There is no file.
        """
        path = Path(self.locator).expanduser()
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
        said = label.decode(errors="replace")
        item = None
        if image:
            # The bytes of an image stand in the record as they are, in the order of the rows.
            begin = record.find(image, end)
            end = begin + len(image)
            item = Item(
                f"{file.name}/{offset + begin:012d}",
                said,
                sha256=hashlib.sha256(image).hexdigest(),
                locator=f"{offset + begin}:{len(image)}:{file}",
            )
        yield LoggedAnswer(
            log.log_metadata.model_spec.version.value,
            log.log_metadata.timestamp_secs,
            said,
            float(probability),
            probabilities.shape[1],
            item,
        )


def _images(request: Any, rows: int) -> list[bytes]:
    """Return the encoded images of a request, all empty where they are not one for each row."""
    inputs = request.inputs
    images = list(inputs[names.IMAGE_BYTES].string_val) if names.IMAGE_BYTES in inputs else []
    return images if len(images) == rows else [b""] * rows


def _opened(locator: str, options: DataSettings, store: str, least_classes: int) -> LogSource:
    # A model may have answered all requests with one class.
    return LogSource(locator, options, store, min(least_classes, 1))


KINDS = (SourceKind(KIND, _opened),)
