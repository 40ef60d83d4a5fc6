"""Batching: requests of the same kind run together, with the parameters of TensorFlow Serving.

It is enabled by ``--enable_batching``. Three things differ from TensorFlow Serving on purpose:

* on an idle server no request waits: ``batch_timeout_micros`` only applies while others run;
* without padding, rows of different shapes go into different batches instead of failing;
* if a batch fails, its requests run again one by one, so that only the broken one is refused.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imgpipe.serving.server import status
from imgpipe.serving.server.runtimes.runtime import Runtime, available_cores
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.textproto import BatchingParameters

_FULL_WAIT_S, _FULL_POLL_S = 0.010, 0.0001
"""A request tries a full queue again every 100 µs for 10 ms, as batch_scheduler_retrier.h does."""
SLICE_ROWS = 64
"""Rows that a ``SlicedRuntime`` runs at once; more were not faster."""
MAX_ROWS = 16_384
"""Rows of one request that a ``SlicedRuntime`` accepts, whose outputs are in memory together."""
Watch = Callable[[str, Iterable[float]], None]
"""Called for each batch with the name of its threads and the seconds that each task waited."""
_Key = tuple[tuple[str, ...], tuple[str, ...], tuple[Any, ...]]


@dataclass
class _Task:
    values: list[np.ndarray]
    rows: int
    deadline: float | None
    arrived: float = field(default_factory=time.monotonic)
    answer: Future[list[np.ndarray]] = field(default_factory=Future)

    def left(self) -> float | None:
        return None if self.deadline is None else self.deadline - time.monotonic()


@dataclass
class _Batch:
    key: _Key
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0


class BatchingRuntime:
    """A runtime behind a queue, which combines the rows of several requests into one batch.

    The runtime ``inner`` is closed with this one.
    """

    def __init__(
        self, inner: Runtime, parameters: BatchingParameters, watch: Watch | None = None
    ) -> None:
        """Start the threads that run the batches.

        Args:
            inner: The runtime of the model; closed with this one.
            parameters: The sizes and times of TensorFlow Serving.
            watch: Called for each batch.
        """
        self._inner, self._parameters, self._watch = inner, parameters, watch
        self.signatures = inner.signatures
        self._largest = parameters.max_batch_size
        if parameters.enable_large_batch_splitting and parameters.max_execution_batch_size:
            self._largest = parameters.max_execution_batch_size
        self._open: OrderedDict[_Key, _Batch] = OrderedDict()
        self._full: deque[_Batch] = deque()
        # Inputs and outputs whose batches cannot be divided again; their requests run one by one.
        self._unbatchable: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
        self._running = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name="batch", daemon=True)
            for _ in range(parameters.num_batch_threads or available_cores())
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self,
        feeds: Sequence[str],
        values: Sequence[np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """See ``Runtime.run``. All inputs have the same number of rows; a timeout covers the queue.

        Raises:
            StatusError: The rows cannot be batched, the queue is full, the time is over, or the
                model fails.
        """
        names = (tuple(feeds), tuple(fetches))
        if names in self._unbatchable or not values:
            return self._inner.run(feeds, values, fetches, timeout)
        rows = _rows(values)
        most = self._parameters.max_batch_size
        if rows > most:  # even where it could be split, as in shared_batch_scheduler.h
            raise invalid(f"Task size {rows} is larger than maximum input batch size {most}")
        deadline = None if timeout is None else time.monotonic() + timeout
        parts = [
            _Task([v[at : at + self._largest] for v in values], size, deadline)
            for at in range(0, max(rows, 1), self._largest)
            for size in [min(self._largest, rows - at)]
        ]
        for part in parts:
            self._enqueue((*names, self._shape_key(part)), part)
        outputs = [self._await(part) for part in parts]
        if len(outputs) == 1:
            return outputs[0]
        return [np.concatenate(pieces) for pieces in zip(*outputs, strict=True)]

    @property
    def queued_rows(self) -> int:
        """Number of rows that wait for a batch to run."""
        with self._changed:
            return sum(batch.rows for batch in (*self._open.values(), *self._full))

    def _shape_key(self, task: _Task) -> tuple[Any, ...]:
        if self._parameters.pad_variable_length_inputs:
            return tuple(value.ndim for value in task.values)
        return tuple(value.shape[1:] for value in task.values)

    def _enqueue(self, key: _Key, task: _Task) -> None:
        give_up = time.monotonic() + _FULL_WAIT_S
        while not self._try_enqueue(key, task):
            if time.monotonic() > give_up:
                raise StatusError(
                    Code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full",
                )
            time.sleep(_FULL_POLL_S)

    def _try_enqueue(self, key: _Key, task: _Task) -> bool:
        with self._changed:
            batch = self._open.get(key)
            if batch is not None and batch.rows + task.rows > self._largest:
                self._full.append(self._open.pop(key))
                batch = None
            if batch is None:
                if len(self._full) + len(self._open) >= self._parameters.max_enqueued_batches:
                    return False
                batch = self._open[key] = _Batch(key)
            batch.tasks.append(task)
            batch.rows += task.rows
            if batch.rows == self._largest:
                self._full.append(self._open.pop(key))
            self._changed.notify()
            return True

    def _await(self, task: _Task) -> list[np.ndarray]:
        try:
            return task.answer.result(task.left())
        except TimeoutError as error:
            late = "Deadline exceeded in the batch queue."
            raise StatusError(Code.DEADLINE_EXCEEDED, late) from error

    def _work(self) -> None:
        while (batch := self._take()) is not None:
            try:
                self._process(batch)
            finally:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

    def _take(self) -> _Batch | None:
        with self._changed:
            while not self._closed:
                batch, wait = self._next()
                if batch is not None:
                    self._running += 1
                    return batch
                self._changed.wait(wait)
        return None

    def _next(self) -> tuple[_Batch | None, float | None]:
        """Return the batch to run now, or else the time in seconds until one is due."""
        if self._full:
            return self._full.popleft(), None
        if not self._open:
            return None, None
        key, batch = next(iter(self._open.items()))
        due = batch.tasks[0].arrived + self._parameters.batch_timeout_micros / 1e6
        wait = due - time.monotonic()
        # On an idle server a wait for other requests would only add to the latency.
        if wait <= 0 or not self._running:
            return self._open.pop(key), None
        return None, wait

    def _process(self, batch: _Batch) -> None:
        tasks = []
        for task in batch.tasks:
            left = task.left()
            if left is None or left > 0:
                tasks.append(task)
            else:
                late = "Deadline exceeded in the queue."
                task.answer.set_exception(StatusError(Code.DEADLINE_EXCEEDED, late))
        if not tasks:
            return
        feeds, fetches, _ = batch.key
        if self._watch is not None:
            now = time.monotonic()
            self._watch(self._parameters.thread_pool_name, [now - task.arrived for task in tasks])
        try:
            self._run_together(feeds, fetches, tasks)
        except Exception as error:
            if isinstance(error, _NotSplittable):
                self._unbatchable.add((feeds, fetches))
            elif len(tasks) == 1:  # a task that ran alone has failed for good
                tasks[0].answer.set_exception(status.from_exception(error))
                return
            for task in tasks:
                self._run_alone(feeds, fetches, task)

    def _run_alone(self, feeds: tuple[str, ...], fetches: tuple[str, ...], task: _Task) -> None:
        try:
            task.answer.set_result(self._inner.run(feeds, task.values, fetches, task.left()))
        except Exception as error:
            task.answer.set_exception(status.from_exception(error))

    def _run_together(
        self, feeds: tuple[str, ...], fetches: tuple[str, ...], tasks: list[_Task]
    ) -> None:
        rows = sum(task.rows for task in tasks)
        # There is no row to pad an empty batch with, and its outputs are empty too.
        sizes = self._parameters.allowed_batch_sizes if rows else ()
        size = next((s for s in sizes if s >= rows), rows)
        values = [
            _concatenated([task.values[index] for task in tasks], size - rows)
            for index in range(len(feeds))
        ]
        outputs = self._inner.run(feeds, values, fetches, _longest_time_left(tasks))
        if any(np.ndim(output) == 0 or len(output) != size for output in outputs):
            raise _NotSplittable
        at = 0
        for task in tasks:
            task.answer.set_result([output[at : at + task.rows] for output in outputs])
            at += task.rows

    def close(self) -> None:
        """Stop the threads and close the runtime. No call may be running or follow."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._inner.close()


class SlicedRuntime:
    """A runtime that runs a few rows at once, so that the memory of a request stays limited.

    Each row of an input must be computed alone, as in the classifiers of imgpipe. The runtime
    ``inner`` is closed with this one.
    """

    def __init__(self, inner: Runtime) -> None:
        self._inner, self.signatures = inner, inner.signatures

    def run(
        self,
        feeds: Sequence[str],
        values: Sequence[np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """See ``Runtime.run``. A timeout covers all rows.

        Raises:
            StatusError: INVALID_ARGUMENT, there are more than ``MAX_ROWS`` rows, or
                DEADLINE_EXCEEDED.
        """
        sizes = {len(value) if value.ndim else 0 for value in values}
        rows = sizes.pop() if len(sizes) == 1 else 0  # the model refuses what does not fit it
        if rows <= SLICE_ROWS:
            return self._inner.run(feeds, values, fetches, timeout)
        if rows > MAX_ROWS:
            raise invalid(
                f"The request has {rows:,} rows; {MAX_ROWS:,} are allowed. Send fewer rows at once."
            )
        end = None if timeout is None else time.monotonic() + timeout
        outputs = []
        for at in range(0, rows, SLICE_ROWS):
            left = None if end is None else max(end - time.monotonic(), 0.0)
            if at and left == 0:  # the runtime may ignore its limit
                late = f"Deadline exceeded after {at:,} of {rows:,} rows."
                raise StatusError(Code.DEADLINE_EXCEEDED, late)
            part = [value[at : at + SLICE_ROWS] for value in values]
            outputs.append(self._inner.run(feeds, part, fetches, left))
        return [
            np.concatenate(pieces) if np.ndim(pieces[0]) else pieces[0]
            for pieces in zip(*outputs, strict=True)
        ]

    def close(self) -> None:
        """Close the runtime. No call may be running or follow."""
        self._inner.close()


class _NotSplittable(Exception):
    """An output does not have one row for each row of the inputs."""


def _rows(values: Sequence[np.ndarray]) -> int:
    if any(value.ndim == 0 for value in values):
        raise invalid("Batching session Run() input tensors must have at least one dimension.")
    sizes = {len(value) for value in values}
    if len(sizes) > 1:
        raise invalid("Batching session Run() input tensors must have equal 0th-dimension size.")
    return sizes.pop()


def _longest_time_left(tasks: Sequence[_Task]) -> float | None:
    """Return the longest remaining time; each task watches its own deadline besides."""
    left = [seconds for task in tasks if (seconds := task.left()) is not None]
    return max(left) if len(left) == len(tasks) else None


def _concatenated(values: list[np.ndarray], padding: int) -> np.ndarray:
    """Return the rows of all tasks, padded to one shape, and ``padding`` copies of the first."""
    shapes = {value.shape[1:] for value in values}
    if len(shapes) > 1:
        target = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        values = [_padded(value, target) for value in values]
    # batching_session.cc also pads with the first row. Zeros might fail: "" is no image.
    if padding:
        first = next(value for value in values if len(value))[:1]
        values = [*values, np.repeat(first, padding, axis=0)]
    return values[0] if len(values) == 1 else np.concatenate(values)


def _padded(value: np.ndarray, target: tuple[int, ...]) -> np.ndarray:
    """Pad the rows of ``value`` to shape ``target`` with its first element."""
    if value.shape[1:] == target:
        return value
    fill = value.reshape(-1)[0] if value.size else np.zeros(1, value.dtype)[0]
    padded = np.full((len(value), *target), fill, dtype=value.dtype)
    padded[tuple(slice(size) for size in value.shape)] = value
    return padded
