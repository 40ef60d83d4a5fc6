"""Request log, which keeps a sample of the requests as PredictionLog records for later use.

It is off unless the settings name a path. The oldest files are deleted when the size limit is
reached. The records can be replayed as warm-up requests, labelled, and compared with the training
data (``imgpipe drift``).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.models.errors import ConfigError
from imgpipe.serving import request_log_files, tensors
from imgpipe.serving.server.settings import Settings

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


class RequestLog:
    """The request log of a server; safe for use from several threads.

    Args:
        settings: The prefix of the files, the share of the requests, and whether images are kept.
            Otherwise strings, which may be or hold encoded images, and pixels are left out.

    Raises:
        ConfigError: The log cannot be written.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        prefix = settings.request_log_prefix
        self._writer = _Writer(prefix, settings.request_log_max_bytes) if prefix else None

    @property
    def enabled(self) -> bool:
        """Whether requests are recorded."""
        return self._writer is not None

    def record(self, request: Any, response: Any) -> None:
        """Record a PredictRequest with the probability of the sampling rate.

        Errors are only logged.

        Args:
            request: The request message.
            response: The response message, which names the model and the version that answered.
        """
        rate = self._settings.request_log_sampling_rate
        if self._writer is None or random.random() >= rate:
            return
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.CopyFrom(request)
        log.predict_log.response.CopyFrom(response)
        if not self._settings.request_log_images:
            _drop_images(log.predict_log.request)
        log.log_metadata.model_spec.name = response.model_spec.name
        log.log_metadata.model_spec.version.value = response.model_spec.version.value
        log.log_metadata.sampling_config.sampling_rate = rate
        log.log_metadata.timestamp_secs = int(time.time())
        try:
            self._writer.write(log.SerializeToString())
        except (OSError, tf.errors.OpError) as error:
            _log.warning("request log %s: %s", self._settings.request_log_prefix, error)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _drop_images(request: Any) -> None:
    """Remove what may be an image from a request in place: strings, tf.Examples and pixels."""
    for name, tensor in list(request.inputs.items()):
        if tensor.dtype == tensors.STRING or len(tensor.tensor_shape.dim) >= _SIDES:
            del request.inputs[name]


class _Writer:
    """TFRecord files of one prefix; each record is on disk when ``write`` returns."""

    def __init__(self, prefix: str, max_bytes: int) -> None:
        self._prefix, self._max_bytes = prefix, max_bytes
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._file: Any = None
        self._resumes = 0.0
        """Time on the monotonic clock until which nothing is written, after a failure."""
        if Path(prefix).is_dir():
            raise ConfigError(f"the request log needs a prefix. Received a folder: {prefix!r}.")
        try:
            Path(prefix).parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=Path(prefix).parent):
                pass
        except OSError as error:
            raise ConfigError(
                f"the request log cannot be written to {Path(prefix).parent}: {error.strerror}. "
                "Choose another folder."
            ) from error
        # Files of earlier processes count towards the limit too.
        found = [(path, path.stat()) for path in request_log_files.of_prefix(Path(prefix))]
        found.sort(key=lambda file: file[1].st_mtime_ns)
        # The bytes of each file, the oldest first. An open file is the last one.
        self._sizes = {path: status.st_size for path, status in found}

    def write(self, record: bytes) -> None:
        size = len(record) + _FRAME_BYTES
        if size > self._max_bytes:
            raise OSError(f"a record of {size} bytes exceeds the limit of {self._max_bytes}")
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
