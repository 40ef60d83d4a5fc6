"""The threads of the requests, with a queue that ends: beyond it requests are refused at once.

A queue without end turns an overload into minutes of waiting for everybody, and into memory. A
client that is refused may try elsewhere or later.
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
    """A request that is not worked on."""


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

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> futures.Future[T]:
        """As usual.

        Raises:
            Refused: RESOURCE_EXHAUSTED, the queue is full, or UNAVAILABLE, the server stops.
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
        """``fn()`` in a thread, from an event loop. It goes on when the caller is cancelled.

        Raises:
            Refused: as ``submit``.
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
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
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
