"""Thread pool for requests with a bounded queue; requests beyond it are refused immediately.

With an unbounded queue, an overload would fill memory and make all clients wait for minutes. A
client that is refused can retry later or on another server.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, TypeVar

from imgpipe.serving.server.status import Code, StatusError

T = TypeVar("T")


class Refused(StatusError):
    """The pool did not accept the request."""


class SheddingPool(futures.ThreadPoolExecutor):
    """A thread pool whose queue holds at most ``max_waiting`` requests (0: any number)."""

    def __init__(self, max_workers: int, max_waiting: int) -> None:
        super().__init__(max_workers, thread_name_prefix="request")
        self.max_waiting = max_waiting
        self._lock = threading.Lock()
        self.workers = max_workers
        self._free, self._waiting = max_workers, 0
        self._draining = False

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return self._waiting

    def drain(self) -> None:
        """Finish the accepted requests, and refuse new requests with UNAVAILABLE."""
        with self._lock:
            self._draining = True

    def idle(self) -> bool:
        """Return whether no request waits or runs."""
        with self._lock:
            return not self._waiting and self._free == self.workers

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> futures.Future[T]:
        """Run ``fn`` in a thread of the pool.

        Raises:
            Refused: RESOURCE_EXHAUSTED if the queue is full, UNAVAILABLE if the server stops.
        """
        with self._lock:
            if self._draining:
                raise Refused(Code.UNAVAILABLE, "The server is shutting down. Try another one.")
            if self.max_waiting and self._waiting - self._free >= self.max_waiting:
                raise Refused(
                    Code.RESOURCE_EXHAUSTED,
                    "The server is overloaded: its queue is full. Try again later, or elsewhere.",
                )
            self._waiting += 1
        return super().submit(self._take, fn, *args, **kwargs)

    async def run(self, fn: Callable[[], T]) -> T:
        """Run ``fn`` in a thread and await it. It runs to its end if the caller is cancelled.

        Raises:
            Refused: See ``submit``.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(done: futures.Future[T]) -> None:
            if answer.done():
                return
            error = done.exception()
            if error is None:
                answer.set_result(done.result())
            else:
                answer.set_exception(error)

        def tell(done: futures.Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended, so nobody waits
                loop.call_soon_threadsafe(settle, done)

        self.submit(fn).add_done_callback(tell)
        return await answer

    def _take(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            self._waiting -= 1
            self._free -= 1
        try:
            return fn(*args, **kwargs)
        finally:
            with self._lock:
                self._free += 1
