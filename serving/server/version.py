"""One version of one model: START, LOADING, AVAILABLE, UNLOADING, END.

Requests hold references to a version. A retired version accepts no new requests, and is closed when
its last reference is released. So a version is never unloaded during a request, and nothing waits.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.serving.server import status, storage
from imgpipe.serving.server.predict import Handle
from imgpipe.serving.server.runtime import Runtime
from imgpipe.serving.server.status import Code, StatusError

_log = logging.getLogger(__name__)
_SETTLE_S = 0.5
"""Files without a manifest must be unchanged for this long, or for one poll, to be loaded."""
RETRY_S = 60.0
"""Seconds until the load of a version that failed is tried again."""
_ATTEMPTS = 6
"""Attempts to load the same files, as many as in TensorFlow Serving."""
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_WARM_UP_RECORDS = 1000
"""Number of requests that are run, the largest in TensorFlow Serving, whose file this is."""
Loader = Callable[[Path], Runtime]


class State(enum.IntEnum):
    """The numbers of ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionState:
    """One line of GetModelStatus."""

    version: int
    state: State
    code: int = Code.OK
    message: str = ""

    def __str__(self) -> str:
        reason = f" ({self.message})" if self.message else ""
        return f"version {self.version} {self.state.name}{reason}"


class ServedVersion:
    """What is known of one version, from the first look at its folder on.

    The thread of the manager looks, loads and retires; any thread acquires and releases.
    """

    def __init__(self, model: str, number: int) -> None:
        self.number = number
        self._title = f"model {model} version {number}"
        self._model = model
        self.state = State.START
        self.error: StatusError | None = None
        """The error of the last attempt to load it."""
        self.missing = ""
        """The reason why its files cannot be loaded yet; empty when they are complete."""
        self._retry_at: float | None = None
        """On the monotonic clock, while it waits for its next attempt to load."""
        self.references = 0
        """Number of requests that hold the version."""
        self._path = Path()
        self._files: storage.Files | None = None
        self._unchanged_since = 0.0
        self._tried: storage.Files | None = None
        """The files that the last load began with."""
        self._failures = 0
        self._handle: Handle | None = None
        self._lock = threading.Lock()

    def look(self, path: Path, *, first: bool, pause: float) -> None:
        """Look at the files, by which a failed version is allowed another attempt.

        The files of an available version are not read again, which many versions would make costly;
        see docs/benchmarks.md, "Constants of the code". A manifest tells whether all files are
        there. Without one, new files that look complete may be partly copied, so they count as
        complete once they have not changed for a while; times of files do not tell, because a copy
        may keep those of the original. At the `first` look they count as complete at once, and
        where the `pause` between two looks is 0.
        """
        if self.state is State.AVAILABLE:
            self.missing = ""
            return
        self._path = path
        files = storage.look(path)
        now = time.monotonic()
        if files is None:
            self.vanish()
            self.missing = "its folder is being removed"
            return
        if files != self._files:
            self._files = files
            self._unchanged_since = now
        settled = (
            first
            or files.vouched_for
            or files == self._tried
            or pause <= 0
            or now - self._unchanged_since >= max(pause, _SETTLE_S)
        )
        self.missing = files.missing or ("" if settled else "its files are still changing")
        if self.error is not None and files != self._tried:
            self.state = State.START
            self.error = None
            self._retry_at = None
            self._failures = 0

    def vanish(self) -> None:
        """Note that its folder is gone. When it is back, even a failed version is tried again."""
        self._tried = self._files = None

    @property
    def is_due(self) -> bool:
        """Whether it should be loaded now, if it is complete."""
        if self.error is not None:
            return self._retry_at is not None and self._retry_at <= time.monotonic()
        return self.state in (State.START, State.END)

    @property
    def line(self) -> VersionState:
        """Its line of GetModelStatus."""
        if self.error:
            return VersionState(self.number, self.state, self.error.code, self.error.message)
        if self.state is State.START and self.missing:
            return VersionState(self.number, self.state, Code.UNAVAILABLE, self.missing)
        return VersionState(self.number, self.state)

    def load(self, loader: Loader, max_pixels: int) -> None:
        """Verify, load and warm up; then AVAILABLE, or END with `error`. It raises nothing."""
        self.state = State.LOADING
        self._tried = self._files
        began = time.monotonic()
        runtime: Runtime | None = None
        try:
            storage.verify(self._path)
            runtime = loader(self._path)
            runtime.prepare()
            handle = Handle(self._model, self.number, runtime, max_pixels, folder=self._path)
            replayed = _warm_up(handle, self._path)
        except Exception as error:  # a model can raise any exception
            _log.debug("load of %s", self._title, exc_info=True)
            if runtime is not None:
                runtime.close()
            self._failed(_load_error(error))
            return
        with self._lock:
            self._handle = handle
            self.state = State.AVAILABLE
            self.error = None
        self._failures = 0
        took = time.monotonic() - began
        _log.info("%s is available (%.1f s, %d warm-up requests)", self._title, took, replayed)

    def _failed(self, error: StatusError) -> None:
        self._failures += 1
        self.error = error
        self.state = State.END
        is_last = self._failures == _ATTEMPTS
        self._retry_at = None if is_last else time.monotonic() + RETRY_S
        _log.error(
            "%s failed (attempt %d of %d): %s", self._title, self._failures, _ATTEMPTS, error
        )

    def acquire(self) -> Handle | None:
        """Add a reference and return the handle; None if the version is not available."""
        with self._lock:
            if self.state is not State.AVAILABLE:
                return None
            self.references += 1
            return self._handle

    def release(self) -> None:
        """Release a reference; the last reference of a retired version closes it."""
        with self._lock:
            self.references -= 1
        self._close_if_idle()

    def retire(self) -> None:
        """Accept no more requests, and close the version when the last request is done."""
        with self._lock:
            if self.state is State.AVAILABLE:
                self.state = State.UNLOADING
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        with self._lock:
            if self.state is not State.UNLOADING or self.references or self._handle is None:
                return
            handle = self._handle
            self._handle = None
        # Outside the lock, which no request should wait for while a session is closed.
        try:
            handle.runtime.close()
        finally:
            self.state = State.END
            _log.info("%s is unloaded", self._title)


def _load_error(error: Exception) -> StatusError:
    converted = status.from_exception(error)
    if converted.code == Code.INTERNAL and isinstance(error, OSError | ValueError | RuntimeError):
        # Errors of the Python loader, such as a missing tag or an unreadable protobuf.
        return StatusError(Code.INVALID_ARGUMENT, status.tidy(str(error)))
    return converted


def _warm_up(handle: Handle, directory: Path) -> int:
    """Run the warm-up requests of a version and return their number.

    This detects exports that can be loaded but cannot run: an error, which names the file, fails
    the load.
    """
    path = directory / WARM_UP_FILE
    if not path.is_file():
        return 0
    try:
        with tf.device("CPU:0"):
            file = tf.data.TFRecordDataset(str(path)).take(MAX_WARM_UP_RECORDS)
            records = list(file.as_numpy_iterator())
        for record in records:
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            handle.predict(request.inputs, request.model_spec.signature_name, request.output_filter)
    except Exception as error:  # a model can raise any exception
        failure = _load_error(error)
        raise StatusError(failure.code, f"{WARM_UP_FILE}: {failure.message}") from error
    return len(records)
