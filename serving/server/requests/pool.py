"""Thread pool for requests with a bounded queue; requests beyond it are refused immediately.

With an unbounded queue, an overload would fill memory and make all clients wait for minutes. A
client that is refused can retry later or on another server. The number of waiting requests is
bounded, and so is the size of all requests that wait or run.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

from imgpipe.serving.server.status import Code, StatusError

T = TypeVar("T")


class Refused(StatusError):
    """The pool did not accept the request."""


class SheddingPool(futures.ThreadPoolExecutor):
    """A thread pool that refuses requests when its queue or its memory is full.

    Args:
        max_workers: Number of threads.
        max_waiting: Largest number of requests in the queue; 0 for any.
        max_bytes: Largest size of all requests together that wait or run; 0 for any. A larger
            request is accepted while there is no other.
    """

    def __init__(self, max_workers: int, max_waiting: int, max_bytes: int = 0) -> None:
        super().__init__(max_workers, thread_name_prefix="request")
        self.max_waiting, self.max_bytes = max_waiting, max_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self.workers = max_workers
        self._free, self._waiting = max_workers, 0
        self._draining = False

    def drain(self) -> None:
        """Finish the accepted requests, and refuse new requests with UNAVAILABLE."""
        with self._lock:
            self._draining = True

    def idle(self) -> bool:
        """Return whether no request waits or runs."""
        with self._lock:
            return not self._waiting and self._free == self.workers

    async def run(self, fn: Callable[[], T], size: int = 0) -> T:
        """Run ``fn`` in a thread and await it. It runs to its end if the caller is cancelled.

        Args:
            fn: Answers the request.
            size: Size of the request in bytes, which ``max_bytes`` limits.

        Raises:
            Refused: RESOURCE_EXHAUSTED if the queue is full or the requests are too large together,
                UNAVAILABLE if the server stops.
        """
        with self._lock:
            self._check_room(size)
            self._bytes += size
            self._waiting += 1
        # asyncio.wrap_future would cancel a queued request together with its caller. ``_take``
        # would then never see it, and it would count as waiting for ever.
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

        self.submit(self._take, fn, size).add_done_callback(tell)
        return await answer

    def _check_room(self, size: int) -> None:
        held = self._bytes
        if self.max_bytes and held and held + size > self.max_bytes:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                f"The server is overloaded: {held:,} bytes of requests wait or run, and this "
                f"request of {size:,} bytes would exceed the limit of {self.max_bytes:,}. Try "
                "again later, or use another server.",
            )
        if self._draining:
            raise Refused(Code.UNAVAILABLE, "The server is shutting down. Use another server.")
        # A request for which a thread is free does not count as waiting.
        if self.max_waiting and self._waiting - self._free >= self.max_waiting:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                "The server is overloaded: its queue is full. Try again later, or use "
                "another server.",
            )

    def _take(self, fn: Callable[[], T], size: int) -> T:
        with self._lock:
            self._waiting -= 1
            self._free -= 1
        try:
            return fn()
        finally:
            with self._lock:
                self._free += 1
                self._bytes -= size
