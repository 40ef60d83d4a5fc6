"""Request log, which keeps a sample of the requests as PredictionLog records for later use.

It is off unless a model's ``logging_config`` (or the flags) name a path. The oldest files are
deleted when the size limit is reached. The records can be replayed as warm-up requests, labelled,
and compared with the training data (``imgpipe drift``).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.serving import request_log_files, tensors
from imgpipe.serving.server.requests.limits import example_images
from imgpipe.serving.server.signature_names import IMAGE_INPUT
from imgpipe.serving.server.versions.config import RequestLogConfig

_log = logging.getLogger(__name__)
_FILES = 8
"""Share of the size limit after which a new file begins, because the oldest file is deleted whole:
an eighth."""
_FRAME_BYTES = 16
"""What TFRecord adds to each record: its length and two checksums."""
_PAUSE_S = 10.0
"""Seconds without a record after a failed one, for example while the disk is full."""
_SIDES = 3
"""Number of dimensions from which a tensor of numbers may be an image."""


@dataclass(frozen=True)
class RequestLogOptions:
    """Options of the request log, which apply to all models."""

    max_bytes: int = 256 << 20
    """Largest total size of the files with one prefix."""
    images: bool = False
    """Whether to keep images too. Otherwise encoded images, those inside tf.Examples, and pixels
    are left out of the records."""
    image_inputs: frozenset[str] = frozenset({IMAGE_INPUT})


class RequestLogs:
    """The request logs of all models, with one writer per path prefix."""

    def __init__(self, options: RequestLogOptions | None = None) -> None:
        self._options = options or RequestLogOptions()
        self._writers: dict[str, _Writer] = {}
        self._lock = threading.Lock()

    def record(
        self,
        config: RequestLogConfig,
        kind: str,
        request: Any,
        response: Any,
        model: str,
        version: int,
    ) -> None:
        """Record this request with the probability of the sampling rate. Errors are only logged.

        Args:
            config: Path prefix and sampling rate.
            kind: Field of PredictionLog, such as ``predict_log``.
            request: The request message.
            response: The response message.
            model: Name of the model that answered.
            version: Version of the model that answered.
        """
        if random.random() >= config.sampling_rate:
            return
        log = prediction_log_pb2.PredictionLog()
        body = getattr(log, kind)
        body.request.CopyFrom(request)
        body.response.CopyFrom(response)
        if not self._options.images:
            _drop_images(body.request, kind, self._options.image_inputs)
        log.log_metadata.model_spec.name = model
        log.log_metadata.model_spec.version.value = version
        log.log_metadata.sampling_config.sampling_rate = config.sampling_rate
        log.log_metadata.timestamp_secs = int(time.time())
        try:
            self._writer(config.path_prefix).write(log.SerializeToString())
        except (OSError, tf.errors.OpError) as error:
            _log.warning("request log %s: %s", config.path_prefix, error)

    def _writer(self, prefix: str) -> _Writer:
        with self._lock:
            if prefix not in self._writers:
                self._writers[prefix] = _Writer(prefix, self._options.max_bytes)
            return self._writers[prefix]

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for writer in self._writers.values():
                writer.close()
            self._writers.clear()


def _drop_images(request: Any, kind: str, names: frozenset[str]) -> None:
    """Remove the images from a request in place, in whichever form they were sent.

    ``names`` are the inputs, and the features of tf.Examples, that hold encoded images.
    """
    if kind != "predict_log":
        examples = getattr(request.input, request.input.WhichOneof("kind") or "example_list")
        # Only one of the two kinds of lists has a context.
        for example in (*examples.examples, getattr(examples, "context", None)):
            for name in names if example is not None else ():
                example.features.feature.pop(name, None)
        return
    for name, tensor in list(request.inputs.items()):
        is_text = tensor.dtype == tensors.STRING
        pixels = not is_text and len(tensor.tensor_shape.dim) >= _SIDES
        if name in names or pixels:
            del request.inputs[name]
        elif is_text:
            # Any string may be a serialized tf.Example with an image in it.
            tensor.string_val[:] = [_without_images(item, names) for item in tensor.string_val]


def _without_images(item: bytes, names: frozenset[str]) -> bytes:
    """Return a serialized tf.Example without its images; any other string is returned unchanged.

    If only a graph can read the images in it, nothing of it is returned.
    """
    # Searching is cheaper than parsing, and most strings have no image.
    if not any(name.encode() in item for name in names):
        return item
    try:
        example = example_pb2.Example.FromString(item)
    except DecodeError:
        return b"" if any(example_images(item, name) for name in names) else item
    for name in names:
        example.features.feature.pop(name, None)
    return bytes(example.SerializeToString())


class _Writer:
    """TFRecord files of one prefix; each record is on disk when ``write`` returns."""

    def __init__(self, prefix: str, max_bytes: int) -> None:
        self._prefix, self._max_bytes = prefix, max_bytes
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._file: Any = None
        self._resumes = 0.0
        """Time on the monotonic clock until which nothing is written, after a failure."""
        # Files of earlier processes count towards the limit too.
        found = [(path, path.stat()) for path in request_log_files.of_prefix(Path(prefix))]
        found.sort(key=lambda file: file[1].st_mtime_ns)
        # The bytes of each file, the oldest first. An open file is the last one.
        self._sizes = {path: status.st_size for path, status in found}

    def write(self, record: bytes) -> None:
        size = len(record) + _FRAME_BYTES
        if size > self._max_bytes:
            raise OSError(
                f"a record of {size} bytes is not kept, because --request_log_max_bytes is "
                f"{self._max_bytes}"
            )
        with self._lock:
            if time.monotonic() < self._resumes:
                return
            try:
                self._append(record, size)
            except BaseException:
                self._resumes = time.monotonic() + _PAUSE_S
                self._abandon()
                raise

    def _append(self, record: bytes, size: int) -> None:
        is_full = self._file and self._sizes[self._path] + size > self._max_bytes // _FILES
        # The user may delete the files at any time.
        if self._file is None or is_full or not self._path.exists():
            self._next()
        self._make_room(size)
        self._file.write(record)
        self._file.flush()
        self._sizes[self._path] += size

    def _next(self) -> None:
        path = request_log_files.new(self._prefix, next(self._numbers))
        path.parent.mkdir(parents=True, exist_ok=True)
        before, self._file = self._file, tf.io.TFRecordWriter(str(path))
        self._sizes = {file: size for file, size in self._sizes.items() if file.exists()}
        self._path, self._sizes[path] = path, 0
        if before is not None:
            before.close()

    def _abandon(self) -> None:
        """Close the file after a failure. Readers stop at a record that was written in part."""
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(Exception):
            file.close()
        with contextlib.suppress(OSError):
            self._sizes[self._path] = self._path.stat().st_size
            if not self._sizes[self._path]:
                self._path.unlink()

    def _make_room(self, size: int) -> None:
        """Delete the oldest files until ``size`` bytes fit beside the rest."""
        while sum(self._sizes.values()) + size > self._max_bytes:
            oldest = next(iter(self._sizes))
            oldest.unlink(missing_ok=True)
            del self._sizes[oldest]

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
