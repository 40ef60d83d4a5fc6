"""Request log, which keeps a sample of the requests as PredictionLog records for later use.

It is off unless the settings name a path. The oldest files are deleted when the size limit is
reached. The records can be replayed as warm-up requests, labelled, and compared with the training
data (`imgpipe drift`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.models.errors import ConfigError
from imgpipe.serving import request_log_files, tensors
from imgpipe.serving.server.settings import ServerSettings
from imgpipe.serving.server.writer import Writer

_FILES = 8
"""A file may have an eighth of the size limit, because the oldest file is deleted whole."""
_FRAME_BYTES = 16
"""What TFRecord adds to each record: its length and two checksums."""
_PAUSE_S = 10.0
"""Seconds without a record after a failed one, for example while the disk is full."""
_ALWAYS = frozenset(["label", "probabilities"])
"""Outputs that are recorded with each answer that has them."""
_SIDES = 3
"""Number of dimensions from which a tensor of numbers may be an image."""


class RequestLog:
    """The request log of a server; requests are recorded in any thread, and one writes them.

    Unless the settings ask for images, strings, which may be or hold encoded images, and pixels
    are left out. Without a writer, each record is written at once. A ConfigError says that the log
    cannot be written.
    """

    def __init__(self, settings: ServerSettings, writer: Writer | None = None) -> None:
        self._settings = settings
        self._writer = writer
        self._numbers = itertools.count()
        self._file: Any = None
        self._path = Path()
        self._left = 0
        """Bytes that the file may still grow."""
        self._resumes = 0.0
        """Time on the monotonic clock until which nothing is written, after a failure."""
        if not self.enabled:
            return
        prefix = Path(settings.request_log_prefix)
        if prefix.is_dir():
            raise ConfigError(
                f"the request log needs a prefix. Received a folder: {str(prefix)!r}."
            )
        try:
            prefix.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=prefix.parent):
                pass
        except OSError as error:
            raise ConfigError(
                f"the request log cannot be written to {prefix.parent}: {error.strerror}. Choose "
                "another folder."
            ) from error

    @property
    def enabled(self) -> bool:
        """Whether requests are recorded."""
        return bool(self._settings.request_log_prefix)

    def record(
        self,
        inputs: Mapping[str, np.ndarray],
        response: Any,
        outputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
    ) -> None:
        """Record a request and its PredictResponse with the probability of the sampling rate.

        `outputs` are all that the model answered. Label and probabilities are recorded even if the
        request did not ask for them, because `imgpipe drift` reads them.
        """
        rate = self._settings.request_log_sampling_rate
        if not self.enabled or random.random() >= rate:
            return
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.CopyFrom(response.model_spec)
        request.output_filter.extend(output_filter)
        for name, value in inputs.items():
            if self._settings.request_log_images or not _may_be_image(value):
                tensors.fill_compact(request.inputs[name], value)
        answer = log.predict_log.response
        answer.CopyFrom(response)
        for name in _ALWAYS & set(outputs) - set(answer.outputs):
            tensors.fill_typed(answer.outputs[name], outputs[name])
        log.log_metadata.model_spec.CopyFrom(response.model_spec)
        log.log_metadata.sampling_config.sampling_rate = rate
        log.log_metadata.timestamp_secs = int(time.time())
        record = log.SerializeToString()
        if self._writer is None:
            self.write(record)
        else:
            self._writer.put(lambda: self.write(record), len(record))

    def write(self, record: bytes) -> None:
        """Write a record; OSError means that it is too large, or that the disk fails."""
        size = len(record) + _FRAME_BYTES
        most = self._settings.request_log_max_bytes // _FILES
        if size > most:
            raise OSError(f"a record of {size} bytes exceeds the limit of a file, {most}")
        if time.monotonic() < self._resumes:
            raise OSError("the disk has failed just before")
        try:
            # The user may delete the files at any time.
            if self._file is None or size > self._left or not self._path.exists():
                self._next(most)
            self._file.write(record)
            self._file.flush()
            self._left -= size
        except (OSError, tf.errors.OpError) as error:
            self._resumes = time.monotonic() + _PAUSE_S
            self._abandon()
            raise OSError(f"request log {self._settings.request_log_prefix}: {error}") from error

    def _next(self, size: int) -> None:
        """Begin a file, and delete the oldest ones until `size` bytes fit beside the rest."""
        self.close()
        prefix = Path(self._settings.request_log_prefix)
        prefix.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Files of earlier processes count towards the limit too.
        files = [(path, path.stat()) for path in request_log_files.of_prefix(prefix)]
        files.sort(key=lambda file: file[1].st_mtime_ns)
        total = sum(status.st_size for _, status in files)
        for path, status in files:
            if total + size <= self._settings.request_log_max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= status.st_size
        self._path = request_log_files.new(str(prefix), next(self._numbers))
        # Only its owner may read it, whatever the umask is: requests may be images of people.
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._file = tf.io.TFRecordWriter(str(self._path))
        self._left = size

    def _abandon(self) -> None:
        """Close the file after a failure. Readers stop at a record that was written in part."""
        with contextlib.suppress(Exception):
            self.close()
        with contextlib.suppress(OSError):
            if not self._path.stat().st_size:
                self._path.unlink()

    def close(self) -> None:
        """Close the file."""
        file = self._file
        self._file = None
        if file is not None:
            file.close()


def _may_be_image(value: np.ndarray) -> bool:
    """Return whether an input is made of strings, as tf.Examples are, or may be pixels."""
    return value.dtype == object or value.ndim >= _SIDES
