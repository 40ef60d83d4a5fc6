"""The threads of the requests, with a queue that ends: beyond it requests are refused at once.

A queue without end turns an overload into minutes of waiting for everybody, and into memory. What
comes when the queue is full is answered by two threads of their own, that do nothing else, with
RESOURCE_EXHAUSTED; a client may try elsewhere or later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

from imgpipe.serving.server.status import Code, StatusError

_SHEDDERS = 2
_FULL = (
    Code.RESOURCE_EXHAUSTED,
    "The server is overloaded: its queue is full. Try again later, or elsewhere.",
)
_DRAINING = (Code.UNAVAILABLE, "The server is shutting down. Try elsewhere.")
_local = threading.local()


class SheddingPool(futures.ThreadPoolExecutor):
    """A thread pool whose queue holds at most ``max_waiting`` requests (0: any number)."""

    def __init__(self, max_workers: int, max_waiting: int) -> None:
        super().__init__(max_workers, thread_name_prefix="request")
        self.max_waiting = max_waiting
        self._shedders = futures.ThreadPoolExecutor(_SHEDDERS, thread_name_prefix="refuse")
        self._lock = threading.Lock()
        self.workers = max_workers
        self._free, self._waiting = max_workers, 0
        self._draining = False

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting

    def drain(self) -> None:
        """Finish what is here; what comes from now on is refused with UNAVAILABLE."""
        with self._lock:
            self._draining = True

    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        with self._lock:
            return not self._waiting and self._free == self.workers

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """As usual, or refused where the queue is full (see ``refuse_if_shed``)."""
        with self._lock:
            refusal = _DRAINING if self._draining else None
            if self.max_waiting and self._waiting - self._free >= self.max_waiting:
                refusal = refusal or _FULL
            self._waiting += refusal is None
        if refusal is not None:
            return self._shedders.submit(_shed, refusal, fn, *args, **kwargs)
        return super().submit(self._take, fn, *args, **kwargs)

    def _take(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            self._waiting -= 1
            self._free -= 1
        try:
            return fn(*args, **kwargs)
        finally:
            with self._lock:
                self._free += 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End both pools."""
        self._shedders.shutdown(wait, cancel_futures=cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)


def _shed(refusal: tuple[Code, str], fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    _local.refusal = refusal
    try:
        return fn(*args, **kwargs)
    finally:
        _local.refusal = None


def refuse_if_shed() -> None:
    """To be called first by whatever runs in the pool.

    Raises:
        StatusError: RESOURCE_EXHAUSTED, the queue was full when this request came, or
            UNAVAILABLE, the server was already stopping.
    """
    refusal = getattr(_local, "refusal", None)
    if refusal is not None:
        raise StatusError(*refusal)
