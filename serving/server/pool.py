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

from serving.server.status import Code, StatusError

_SHEDDERS = 2
_local = threading.local()


class SheddingPool(futures.ThreadPoolExecutor):
    """A thread pool whose queue holds at most ``max_waiting`` requests (0: any number)."""

    def __init__(self, max_workers: int, max_waiting: int) -> None:
        super().__init__(max_workers, thread_name_prefix="request")
        self.max_waiting = max_waiting
        self._shedders = futures.ThreadPoolExecutor(_SHEDDERS, thread_name_prefix="refuse")
        self._lock = threading.Lock()
        self._free, self._waiting = max_workers, 0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """As usual, or refused where the queue is full (see ``refuse_if_shed``)."""
        with self._lock:
            full = bool(self.max_waiting) and self._waiting - self._free >= self.max_waiting
            self._waiting += not full
        if full:
            return self._shedders.submit(_shed, fn, *args, **kwargs)
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


def _shed(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    _local.shed = True
    try:
        return fn(*args, **kwargs)
    finally:
        _local.shed = False


def refuse_if_shed() -> None:
    """To be called first by whatever runs in the pool.

    Raises:
        StatusError: RESOURCE_EXHAUSTED, the queue was full when this request came.
    """
    if getattr(_local, "shed", False):
        raise StatusError(
            Code.RESOURCE_EXHAUSTED,
            "The server is overloaded: its queue is full. Try again later, or elsewhere.",
        )
