"""Execution of requests: threads, turns and conversions.

With an unbounded queue, an overload would fill memory and make all clients wait for minutes. A
client that is refused can retry later or on another server. A request whose client has gone is not
run. Long requests have threads of their own, so that short ones never wait for a thread.

A conversion holds Python's interpreter lock. Other requests need this lock several times each, and
would wait for every thread that converts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from imgpipe.models.machine.system import give_memory_back
from imgpipe.serving.server import status
from imgpipe.serving.server.status import Code, StatusError, overloaded

_log = logging.getLogger(__name__)
T = TypeVar("T")
LARGE_BYTES = 8 << 20
"""Size of a block of memory, or of a request, that is worth giving back when it is freed. Blocks of
this size in a photograph's computation are few: its time was the same."""
HUGE_BYTES = 20 << 20
"""Size from which requests wait for each other. It is more than our client sends at once."""
_HUGE_AT_ONCE = 128 << 20
"""Size of all huge requests that run at once. Each takes about four times its size meanwhile."""
_GIVEN_BACK_S = 2.0
"""Seconds after a large request in which gRPC frees its copies, too."""


@dataclass
class Call:
    """One request. The second block of fields is set while it runs."""

    entrypoint: Literal["GRPC", "REST"]
    method: str = "Predict"
    """Method of TensorFlow Serving, also over REST."""
    deadline: float | None = None
    """Deadline on the monotonic clock; None for no deadline."""
    is_long: bool = False
    """Whether the request is computed in several slices, and runs in a thread for such requests."""
    is_abandoned: bool = False
    """Whether nobody waits for the answer any more."""

    size: int = 0
    """Bytes of the request."""
    model: str = ""
    version: int | None = None
    signature: str = ""
    rows: int = 0
    run_seconds: float = 0.0
    code: Code = Code.OK
    seconds: float = 0.0

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
        if self.is_abandoned:
            raise StatusError(Code.CANCELLED, "Cancelled by the client.")


class LongCall(Exception):
    """A call that has just been found to be long, and therefore begins again in another thread."""

    def __init__(self, call: Call) -> None:
        super().__init__("a long request")
        call.is_long = True


class Calls:
    """Runs requests of both protocols, and notifies the observers, such as the metrics.

    Args:
        pool: The threads that do the work.
        observers: See `observers`.
    """

    def __init__(
        self, pool: SheddingPool, observers: Sequence[Callable[[Call], None]] = ()
    ) -> None:
        self.pool = pool
        self.observers: list[Callable[[Call], None]] = list(observers)
        """Called after each request, in its thread. Their exceptions are logged and ignored."""
        self._giving_back = threading.Timer(_GIVEN_BACK_S, give_memory_back)

    async def answer(self, call: Call, work: Callable[[], T], size: int = 0) -> T:
        """Run `work` in a thread, and await its result.

        A request that is still in the queue when the caller is cancelled is not run.

        Args:
            call: The request.
            work: Makes the answer; it is called again in another thread if it raises `LongCall`.
            size: Size of the request in bytes, which the pool limits.

        Raises:
            StatusError: The request failed, or the pool has no room for it.
        """
        try:
            return await self.pool.run(lambda: self.run(call, work), size)
        except StatusError as error:
            self.refuse(call, error)
            raise
        finally:
            call.is_abandoned = True

    def run(self, call: Call, work: Callable[[], T]) -> T:
        """Run `work` in this thread, and return its result.

        Raises:
            LongCall: The request is long and has to run again in another thread.
            StatusError: The request failed; other exceptions are converted.
        """
        began = time.monotonic()
        failure: StatusError | None = None
        try:
            call.check()  # the client may have gone while the request waited in the queue
            result = work()
        except LongCall:
            raise
        except Exception as error:
            failure = status.from_exception(error)
            # Only an unexpected exception is logged with its traceback.
            if failure.code == Code.INTERNAL and not isinstance(error, StatusError):
                _log.exception("internal error")
        call.seconds = time.monotonic() - began
        if call.size > LARGE_BYTES:
            self._give_memory_back_soon()
        if failure is None:
            self._tell(call)
            return result
        self.refuse(call, failure)
        # Without the frames of `work`, which hold the content of the request.
        failure.__cause__ = failure.__context__ = None
        raise failure.with_traceback(None)

    def refuse(self, call: Call, error: StatusError) -> None:
        """Notify the observers, once, of a request that has failed, or does not run at all."""
        if call.code is Code.OK:
            call.code = error.code
            self._tell(call)

    def _give_memory_back_soon(self) -> None:
        """Give memory back once there has been no large request for a while."""
        self._giving_back.cancel()
        self._giving_back = threading.Timer(_GIVEN_BACK_S, give_memory_back)
        self._giving_back.daemon = True
        self._giving_back.start()

    def _tell(self, call: Call) -> None:
        for observer in self.observers:
            try:
                observer(call)
            except Exception:  # the answer does not depend on it
                _log.exception("observer of requests")


class SheddingPool(futures.ThreadPoolExecutor):
    """A thread pool that refuses requests when its queue or its memory is full.

    Huge requests wait for each other, in the order in which they have come.

    Args:
        max_workers: Number of threads, and of further threads for long requests.
        max_waiting: Largest number of requests in the queue; 0 for any.
        max_bytes: Largest size of all requests together that wait or run; 0 for any. A larger
            request is accepted while there is no other.
    """

    def __init__(self, max_workers: int, max_waiting: int, max_bytes: int = 0) -> None:
        super().__init__(max_workers, thread_name_prefix="request")
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes
        self._bytes = self._accepted = self._running = 0
        self._huge_bytes = 0
        """Size of all huge requests that run."""
        self._huge: deque[tuple[Callable[[], Any], int, futures.Future[Any]]] = deque()
        """The huge requests that wait, as the arguments of `_take`."""
        self._lock = threading.Lock()
        self._draining = False
        self._long = futures.ThreadPoolExecutor(max_workers, thread_name_prefix="long-request")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all threads when they have finished."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._long.shutdown(wait, cancel_futures=cancel_futures)

    def drain(self) -> None:
        """Finish the accepted requests, and refuse new requests with UNAVAILABLE."""
        with self._lock:
            self._draining = True

    def load(self) -> tuple[int, int]:
        """Return the number of requests that wait for a thread, and of those that have one."""
        with self._lock:
            return self._accepted - self._running, self._running

    def idle(self) -> bool:
        """Return whether no request waits or runs."""
        return self.load() == (0, 0)

    async def run(self, fn: Callable[[], T], size: int = 0) -> T:
        """Run `fn` in a thread and await it. It runs to its end if the caller is cancelled.

        Args:
            fn: Answers the request; it is called again in another thread if it raises `LongCall`.
            size: Size of the request in bytes, which `max_bytes` limits.

        Raises:
            StatusError: RESOURCE_EXHAUSTED if the queue is full or the requests are too large
                together, UNAVAILABLE if the server stops.
        """
        with self._lock:
            self._check_room(size)
            self._bytes += size
            self._accepted += 1
        answer: futures.Future[T] = futures.Future()
        if size > HUGE_BYTES:
            self._huge.append((fn, size, answer))
            self._begin_huge()
        else:
            self.submit(self._take, fn, size, answer)
        waiting = asyncio.wrap_future(answer)
        # asyncio would log the error of a request whose caller has gone.
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            # Without the shield, a queued request would be dropped together with its caller, and
            # would count as waiting for ever.
            return await asyncio.shield(waiting)
        finally:
            # They hold an error whose traceback holds them, and with them the bytes of the request.
            del fn, answer, waiting

    def check_open(self) -> None:
        """Raise the StatusError UNAVAILABLE for new requests while the server stops."""
        if self._draining:
            raise StatusError(Code.UNAVAILABLE, "The server is shutting down. Use another server.")

    def _check_room(self, size: int) -> None:
        held = self._bytes
        if self._max_bytes and held and held + size > self._max_bytes:
            raise overloaded(
                f"{held:,} bytes of requests wait or run, and this request of {size:,} bytes would "
                f"exceed the limit of {self._max_bytes:,}"
            )
        self.check_open()
        if self._max_waiting and self._accepted >= self._max_workers + self._max_waiting:
            raise overloaded("its queue is full")

    def _begin_huge(self, ended: int = 0) -> None:
        """Begin the huge requests for which there is room after one of some bytes has ended."""
        # A pool that is shut down takes nothing more, and nobody waits for an answer.
        with self._lock, contextlib.suppress(RuntimeError):
            self._huge_bytes -= ended
            while self._huge:
                total = self._huge_bytes + self._huge[0][1]
                if self._huge_bytes and total > _HUGE_AT_ONCE:
                    return
                self._huge_bytes = total
                fn, size, answer = self._huge.popleft()
                self.submit(self._take, fn, size, answer)

    def _take(self, fn: Callable[[], T], size: int, answer: futures.Future[T]) -> None:
        with self._lock:
            self._running += 1
        try:
            result = fn()
        except LongCall:
            with self._lock:
                self._running -= 1
            self._long.submit(self._take, fn, size, answer)
        except BaseException as error:
            self._end(size)
            # Without the frames of this thread, which hold the bytes of the request.
            answer.set_exception(error.with_traceback(None))
        else:
            self._end(size)
            answer.set_result(result)

    def _end(self, size: int) -> None:
        with self._lock:
            self._running -= 1
            self._bytes -= size
            self._accepted -= 1
        if size > HUGE_BYTES:
            self._begin_huge(ended=size)


_SMALL_BYTES = 64 << 10
"""Size of a request whose conversion takes a millisecond at most."""
_PAUSE_PER_BYTE_S = 4e-9
"""Pause in seconds for each byte of a large message that has just arrived. gRPC's thread, which
serves all connections, copies it; see docs/benchmarks.md, "Constants of the code"."""
_one_at_a_time = threading.Lock()
"""Held while a large request is converted."""


@contextmanager
def conversion(size: int, *, arrived: bool = False) -> Iterator[None]:
    """Hold the conversion of some bytes of a request in the block.

    Where they are many, wait for the turn of this thread, and pause after the block for as long as
    it took. Without the pause, other requests would wait for the next conversion each time that
    they need the interpreter lock.

    Args:
        size: Number of bytes that are converted.
        arrived: Whether these are the bytes of a message that has just arrived.
    """
    if size <= _SMALL_BYTES:
        yield
        return
    with _one_at_a_time:
        began = time.monotonic()
        try:
            yield
        finally:
            copied = size * _PAUSE_PER_BYTE_S if arrived and size > LARGE_BYTES else 0.0
            time.sleep(max(time.monotonic() - began, copied))
