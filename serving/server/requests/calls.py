"""Execution of inference requests from gRPC and REST, with observers such as log and metrics.

A request whose client has gone is not run. All requests are counted, timed and reported to the
observers with their status.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from imgpipe.serving.server import status
from imgpipe.serving.server.status import Code, StatusError, code_name

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Call:
    """One request. The first block of fields is given, the second is set while it runs."""

    method: str
    """``Predict``, ``GetModelMetadata`` …"""
    entrypoint: Literal["GRPC", "REST"]
    peer: str = ""
    request_bytes: int = 0
    deadline: float | None = None
    """Deadline on the monotonic clock; None for no deadline."""
    is_active: Callable[[], bool] = field(default=lambda: True, repr=False)
    """Returns whether the client still waits for the answer."""

    model: str = ""
    version: int | None = None
    signature: str = ""
    rows: int = 0
    run_seconds: float = 0.0
    code: int = Code.OK
    message: str = ""
    """The error as the client receives it."""
    seconds: float = 0.0
    started: float = field(default_factory=time.time)
    """Start of the request, in seconds since 1970."""

    def left(self) -> float | None:
        """Return the seconds until the deadline; None without a deadline."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def check(self) -> None:
        """Check that somebody still waits for the answer.

        Raises:
            StatusError: DEADLINE_EXCEEDED, the time is over; CANCELLED, the client has gone.
        """
        left = self.left()
        if left is not None and left <= 0:
            raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded.")
        if not self.is_active():
            raise StatusError(Code.CANCELLED, "Cancelled by the client.")

    @property
    def status(self) -> str:
        """Name of the status code."""
        return code_name(self.code)


Observer = Callable[[Call], None]


class Calls:
    """Runs requests and notifies the observers."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self.observers: list[Observer] = list(observers)
        """Called after each request, in its thread. Their exceptions are logged and ignored."""

    def run(self, call: Call, work: Callable[[Call], T]) -> T:
        """Run ``work(call)`` and return its result.

        Raises:
            StatusError: The request failed; other exceptions are converted.
        """
        began = time.monotonic()
        try:
            call.check()  # the client may have gone while the request waited in the queue
            return work(call)
        except Exception as error:
            failure = status.from_exception(error)
            call.code, call.message = failure.code, status.truncate(failure.message)
            # Only an unexpected exception is logged with its traceback.
            if failure.code == Code.INTERNAL and not isinstance(error, StatusError):
                _log.exception("internal error")
            raise failure from error
        finally:
            call.seconds = time.monotonic() - began
            self._tell(call)

    def refuse(self, call: Call, error: StatusError) -> None:
        """Notify the observers of a request that is refused before it runs."""
        call.code, call.message = error.code, status.truncate(error.message)
        self._tell(call)

    def _tell(self, call: Call) -> None:
        for observer in self.observers:
            try:
                observer(call)
            except Exception:  # a full disk under the log must not fail the request
                _log.exception("observer of requests")
