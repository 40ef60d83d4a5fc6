"""The life cycle of one version: START, LOADING, AVAILABLE, UNLOADING, END.

Requests hold references to a version. A retired version accepts no new requests, and is closed when
its last reference is released. So a version is never unloaded during a request, and nothing waits.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imgpipe.serving.server import status, storage
from imgpipe.serving.server.requests.handle import Handle
from imgpipe.serving.server.runtimes.runtime import Runtime
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.versions import warmup

_log = logging.getLogger(__name__)


class State(enum.IntEnum):
    """The numbers of ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


Loader = Callable[[Path], Runtime]


@dataclass(frozen=True)
class LoadPolicy:
    """How a version is loaded and warmed up."""

    warm: bool = True
    warm_iterations: int = 1
    max_retries: int = 0
    """Number of further attempts after a failed load."""
    retry_seconds: float = 60.0
    slots: threading.Semaphore | None = None
    """Limits the number of simultaneous loads of all models; None for no limit."""
    on_warm_up: Callable[[Path, str, float], None] | None = None
    """Called after each replay with the version directory, the name of the status and seconds."""


class Servable:
    """One version of one model."""

    def __init__(
        self, model: str, directory: storage.VersionDirectory, policy: LoadPolicy | None = None
    ) -> None:
        self.model, self.directory = model, directory
        self.version = directory.version
        self._title = f"model {model} version {self.version}"
        self.state = State.START
        self.references = 0
        """Number of requests that hold the version."""
        self.error: StatusError | None = None
        self.may_retry = False
        """Set by the manager when the files of a failed version changed."""
        self.retry_at: float | None = None
        """On the monotonic clock, while it waits for its next attempt to load."""
        self._policy = policy or LoadPolicy()
        self._failures = 0
        self._runtime: Runtime | None = None
        self._lock = threading.Lock()

    def load(self, loader: Loader) -> None:
        """Verify, load and warm up; then AVAILABLE, or END with ``error``. Never raises.

        While attempts are left, a failure leaves it LOADING with ``retry_at`` set.
        """
        self.state, self.retry_at = State.LOADING, None
        with self._policy.slots or contextlib.nullcontext():
            self._load(loader)

    def _load(self, loader: Loader) -> None:
        began = time.monotonic()
        runtime: Runtime | None = None
        try:
            path = self.directory.local()
            storage.verify(path)
            runtime = loader(path)
            replayed = self._warm_up(runtime, path) if self._policy.warm else 0
        except Exception as error:  # a model can raise any exception
            _log.debug("load of %s version %d", self.model, self.version, exc_info=True)
            if runtime is not None:
                runtime.close()
            self._failed(_load_error(error))
            return
        with self._lock:
            self._runtime, self.state = runtime, State.AVAILABLE
        took = time.monotonic() - began
        _log.info("%s is available (%.1f s, %d warm-up requests)", self._title, took, replayed)

    def _warm_up(self, runtime: Runtime, path: Path) -> int:
        """Replay the warm-up requests and return their number."""
        handle = Handle(self.model, self.version, runtime)
        began, code = time.monotonic(), int(Code.OK)
        try:
            return warmup.replay(handle, path, self._policy.warm_iterations)
        except Exception as error:
            code = status.from_exception(error).code
            raise
        finally:
            if self._policy.on_warm_up is not None and (path / warmup.FILE).is_file():
                seconds = time.monotonic() - began
                self._policy.on_warm_up(path, status.code_name(code), seconds)

    def _failed(self, error: StatusError) -> None:
        self._failures += 1
        if self._failures <= self._policy.max_retries:
            self.retry_at = time.monotonic() + self._policy.retry_seconds
            _log.error(
                "%s failed (attempt %d of %d, next in %g s): %s",
                self._title,
                self._failures,
                self._policy.max_retries + 1,
                self._policy.retry_seconds,
                error,
            )
            return
        self.error = error
        self.state = State.END
        _log.error("%s failed: %s", self._title, error)

    def give_up(self) -> None:
        """Make no further attempts to load, because the version is gone or no longer needed."""
        if self.retry_at is not None:
            self.retry_at = None
            self.error = StatusError(
                Code.CANCELLED,
                "Its load was cancelled, because the version is gone or no longer needed",
            )
            self.state = State.END

    def acquire(self) -> Runtime | None:
        """Add a reference and return the runtime; None if the version is not available."""
        with self._lock:
            if self.state is not State.AVAILABLE:
                return None
            self.references += 1
            return self._runtime

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
        self.give_up()
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        with self._lock:
            if self.state is not State.UNLOADING or self.references or self._runtime is None:
                return
            runtime, self._runtime = self._runtime, None
        # Outside the lock, which no request should wait for while a session is closed.
        try:
            runtime.close()
        finally:
            self.state = State.END
            _log.info("%s is unloaded", self._title)


def _load_error(error: Exception) -> StatusError:
    known = status.from_exception(error)
    if known.code == Code.INTERNAL and isinstance(error, OSError | ValueError | RuntimeError):
        # Errors of the Python loader, such as a missing tag or an unreadable protobuf.
        return StatusError(Code.INVALID_ARGUMENT, status.tidy(str(error)))
    return known
