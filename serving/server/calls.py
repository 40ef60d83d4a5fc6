"""Requests of both protocols: how many there are, the bytes that they hold, and their threads.

A request has a place from its head on. Before its body is read, it holds as many bytes of one room
as the body may have; where there are not so many, it waits, and the body stays with its client. It
then runs in a thread. A request whose client has gone while it waited for one is not run.

Places and bytes belong to the event loop of the ports, so that they need no lock. The threads exist
before the ports listen, because a machine that can start no more of them could not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Literal, TypeVar

from imgpipe.models.errors import ResourceError
from imgpipe.models.machine import process
from imgpipe.models.machine.system import processors
from imgpipe.serving.server import status
from imgpipe.serving.server.settings import ServerSettings
from imgpipe.serving.server.status import Code, StatusError

_log = logging.getLogger(__name__)
T = TypeVar("T")
_THREADS_PER_CORE = 4
LARGE_BYTES = 1 << 20
"""Size from which a request runs in the threads for large ones, one for each core. So photographs
hold up no small image, and few requests take several times their size at once."""
SILENT_S = 5.0
"""Seconds after which a body that sends nothing is ended while others wait for its bytes."""
_SHORTAGE_S = 60.0
"""Seconds between two lines of the log about the same shortage of the machine."""


@dataclass
class Call:
    """One request. The second block of fields is set while it runs."""

    entrypoint: Literal["GRPC", "REST"]
    method: str = "Predict"
    """Method of TensorFlow Serving, also over REST."""
    deadline: float | None = None
    """Deadline on the monotonic clock; None for no deadline."""
    has_arrived: bool = False
    """Whether its body has been read."""
    is_abandoned: bool = False
    """Whether nobody waits for the answer any more."""

    model: str = ""
    version: int | None = None
    signature: str = ""
    rows: int = 0
    run_seconds: float = 0.0
    code: Code = Code.OK
    seconds: float = 0.0

    def check(self) -> None:
        """Check that somebody still waits for the answer; otherwise it is a StatusError."""
        if self.deadline is not None and self.deadline <= time.monotonic():
            raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded.")
        if self.is_abandoned:
            raise StatusError(Code.CANCELLED, "Cancelled by the client.")


class Room:
    """The bytes that all requests may hold together; what finds none waits in its order."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_wanted(self) -> bool:
        """Whether a request waits for bytes."""
        return bool(self._waiting)

    async def take(self, size: int) -> None:
        """Wait until there are `size` bytes, and hold them."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)  # its turn has come at the same time
            else:
                self._waiting.remove((size, turn))
                self.give(0)  # those behind it may need less
            raise

    def give(self, size: int) -> None:
        """Give bytes back, to those who wait."""
        self._free += size
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            self._free -= wanted
            turn.set_result(None)


class Place:
    """One request among those that the server has accepted, and the bytes that it holds."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._held = 0
        self._looked = 0.0
        self._seen = 0
        self.runs = False
        """Whether a thread has the request, which then gives the place back."""

    async def hold(self, size: int) -> None:
        """Wait for the bytes of a body that is about to be read."""
        await self._calls.room.take(size)
        self._held = size
        self._looked = time.monotonic()

    def keep(self, size: int) -> None:
        """Give back all bytes but those of a body that has arrived."""
        self._calls.room.give(self._held - size)
        self._held = size

    async def arriving(self, part: Awaitable[T], so_far: int = 0) -> T:
        """Await the next part of a body, which may not be silent or slow while others wait.

        Slow is a body that would not be complete in time at the pace of the last seconds.
        """
        arrival = asyncio.ensure_future(part)
        try:
            while not (await asyncio.wait([arrival], timeout=SILENT_S))[0]:
                self._end_if_others_wait(f"did not go on for {SILENT_S:g} s")
            seconds = time.monotonic() - self._looked
            if seconds > SILENT_S:
                pace = (so_far - self._seen) / seconds
                if pace * self._calls.body_seconds < self._held:
                    self._end_if_others_wait("came too slowly to be complete in time")
                self._looked += seconds
                self._seen = so_far
            return await arrival
        finally:
            arrival.cancel()

    def _end_if_others_wait(self, why: str) -> None:
        if self._calls.room.is_wanted:
            raise StatusError(
                Code.DEADLINE_EXCEEDED,
                f"The body of the request {why}, while other requests wait.",
            )

    def end(self) -> None:
        """Give the place and its bytes back, once."""
        self._calls.room.give(self._held)
        self._calls.accepted -= 1
        self._calls.running -= self.runs


class Calls:
    """Runs the requests of a server, and notifies the observers, such as the metrics."""

    def __init__(
        self, settings: ServerSettings, observers: tuple[Callable[[Call], None], ...] = ()
    ) -> None:
        cores = processors()
        threads = settings.grpc_max_threads or _THREADS_PER_CORE * cores
        self._small = _started(threads, "request")
        self._large = _started(min(threads, cores), "large-request")
        waiting = settings.max_queued_requests
        self._most = threads + waiting if waiting else 0
        self.room = Room(settings.max_bytes_in_flight)
        self.body_seconds = settings.rest_api_timeout_in_ms / 1000
        """Seconds in which a body is complete."""
        self.observers: list[Callable[[Call], None]] = list(observers)
        """Called after each request. Their exceptions are logged and ignored."""
        self.accepted = 0
        """Number of requests that arrive, wait or run."""
        self.running = 0
        """Number of those that have arrived, which wait for a thread or have one."""
        self._draining = False
        self._told_shortage = -_SHORTAGE_S

    def drain(self) -> None:
        """Finish the requests that have arrived, and refuse new ones with UNAVAILABLE."""
        self._draining = True

    def shutdown(self) -> None:
        """End all threads when they have finished."""
        for pool in (self._small, self._large):
            pool.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def place(self, call: Call) -> Iterator[Place]:
        """Accept a request for the block, or refuse it with a StatusError.

        So is what the block lacks. The observers are told of a StatusError, also of one that the
        block raises.
        """
        try:
            if self._draining:
                raise StatusError(
                    Code.UNAVAILABLE, "The server is shutting down. Use another server."
                )
            if self._most and self.accepted >= self._most:
                raise StatusError(
                    Code.RESOURCE_EXHAUSTED,
                    "The server is overloaded: its queue is full. Try again later, or use another "
                    "server.",
                )
            self.accepted += 1
            place = Place(self)
            try:
                yield place
            finally:
                if not place.runs:
                    place.end()
        except StatusError as error:
            self._refuse(call, error)
            raise
        except Exception as error:
            shortage = self._shortage(error)
            if shortage is None:
                raise
            self._refuse(call, shortage)
            raise shortage from None
        finally:
            call.is_abandoned = True

    async def answer(self, call: Call, place: Place, work: Callable[[], T], size: int) -> T:
        """Run `work` for a request of `size` bytes in a thread, and await its result.

        The place is given back when the thread has ended, also if the caller is cancelled before.
        """
        loop = asyncio.get_running_loop()
        pool = self._large if size > LARGE_BYTES else self._small
        running = pool.submit(self._run, call, work)
        place.runs = True
        self.running += 1

        def end(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the server
                loop.call_soon_threadsafe(place.end)

        running.add_done_callback(end)
        return await asyncio.wrap_future(running)

    def _run(self, call: Call, work: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            call.check()  # the client may have gone while the request waited in the queue
            result = work()
        except Exception as error:
            call.seconds = time.monotonic() - began
            failure = self._failure(error)
            self._refuse(call, failure)
            # Without the frames of `work`, which hold the content of the request.
            failure.__cause__ = failure.__context__ = None
            raise failure.with_traceback(None) from None
        call.seconds = time.monotonic() - began
        self._tell(call)
        return result

    def _failure(self, error: Exception) -> StatusError:
        if isinstance(error, StatusError):
            return error
        shortage = self._shortage(error)
        if shortage is not None:
            return shortage
        failure = status.from_exception(error)
        if failure.code == Code.INTERNAL:
            _log.error("internal error: %s", failure.message)
            _log.debug("internal error", exc_info=error)
        return failure

    def _shortage(self, error: Exception) -> StatusError | None:
        """Return the refusal where the machine lacks something, which one line of the log tells."""
        if not process.lacking(error) and not isinstance(error, OSError):
            return None
        why = str(error) or "not enough memory"  # a MemoryError has no text
        now = time.monotonic()
        if now - self._told_shortage >= _SHORTAGE_S:
            self._told_shortage = now
            _log.error("requests are refused, because the machine lacks something: %s", why)
        return StatusError(Code.UNAVAILABLE, f"The server lacks memory or files: {why}")

    def _refuse(self, call: Call, error: StatusError) -> None:
        """Notify the observers, once, of a request that has failed, or does not run at all."""
        if call.code is Code.OK:
            call.code = error.code
            self._tell(call)

    def _tell(self, call: Call) -> None:
        for observer in self.observers:
            try:
                observer(call)
            except Exception as error:  # the answer does not depend on it
                _log.error("observer of requests: %s", error)


def _started(count: int, name: str) -> futures.ThreadPoolExecutor:
    """Return a pool whose threads all exist."""
    pool = futures.ThreadPoolExecutor(count, thread_name_prefix=name)
    # A pool starts a thread for each task until it has all of them; here all wait for each other.
    everyone = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(everyone.wait)
    except RuntimeError as error:
        everyone.abort()
        pool.shutdown(wait=False)
        raise ResourceError(
            f"the machine starts no more threads ({error}). The server needs {count} for requests: "
            "give it fewer with --grpc_max_threads, or allow more (ulimit -u)."
        ) from error
    everyone.wait()
    return pool
