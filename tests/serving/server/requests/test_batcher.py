"""The batching queue, in front of a fake runtime that records its inputs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgpipe.serving.server.requests import batcher
from imgpipe.serving.server.requests.batcher import BatchingRuntime, SlicedRuntime
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.textproto import BatchingParameters

X, Y = ["x"], ["y"]


class Doubler:
    """A fake runtime that computes y = 2x and records the shapes of its inputs.

    Negative inputs are refused. While ``gate`` is cleared, requests wait.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.signatures: dict = {}
        self.shapes: list[tuple[int, ...]] = []
        self.seconds, self.closed = seconds, False
        self.gate = threading.Event()
        self.gate.set()

    def run(self, feeds, values, fetches, timeout=None):
        self.shapes.append(values[0].shape)
        self.gate.wait(10)
        time.sleep(self.seconds)
        if np.any(values[0] < 0):
            raise StatusError(Code.INVALID_ARGUMENT, "negative")
        return [values[0] * 2 if name == "y" else np.float32(len(values[0])) for name in fetches]

    def close(self):
        self.closed = True


@pytest.fixture
def batched():
    """Return a function that puts a BatchingRuntime in front of a Doubler."""
    made = []

    def make(inner: Doubler, **parameters) -> BatchingRuntime:
        parameters.setdefault("num_batch_threads", 1)
        made.append((inner, BatchingRuntime(inner, BatchingParameters(**parameters))))
        return made[-1][1]

    yield make
    for inner, runtime in made:
        inner.gate.set()
        runtime.close()
        assert inner.closed


def test_the_observer_gets_each_batch_with_the_waiting_times_of_its_tasks():
    seen: list[tuple[str, list[float]]] = []
    inner = Doubler()
    parameters = BatchingParameters(num_batch_threads=1, max_batch_size=2, thread_pool_name="pool")
    runtime = BatchingRuntime(inner, parameters, lambda *batch: seen.append(batch))
    inner.gate.clear()
    with ThreadPoolExecutor(3) as callers:
        first = callers.submit(runtime.run, X, [rows(1)], Y)
        while not inner.shapes:
            time.sleep(0.005)
        pair = [callers.submit(runtime.run, X, [rows(value)], Y) for value in (2, 3)]
        time.sleep(0.1)
        inner.gate.set()
        assert [task.result()[0].tolist() for task in [first, *pair]] == [[2], [4], [6]]
    runtime.close()
    assert [(name, len(waited)) for name, waited in seen] == [("pool", 1), ("pool", 2)]
    assert max(seen[1][1]) >= 0.1


def rows(*values: float) -> np.ndarray:
    """Return float32 values of shape [N]."""
    return np.float32(values)


def held(inner: Doubler, runtime: BatchingRuntime, pool: ThreadPoolExecutor):
    """Start a request that runs until the gate opens, and return its future."""
    inner.gate.clear()
    first = pool.submit(runtime.run, X, [rows(0)], Y)
    while not inner.shapes:
        time.sleep(0.001)
    return first


def test_waiting_requests_run_as_one_batch_and_get_their_own_outputs(batched):
    inner = Doubler()
    runtime = batched(inner)
    with ThreadPoolExecutor(8) as pool:
        held(inner, runtime, pool)
        others = [pool.submit(runtime.run, X, [rows(i, i + 0.5)], Y) for i in range(1, 7)]
        while runtime.queued_rows < 12:
            time.sleep(0.001)
        inner.gate.set()
        for i, future in enumerate(others, 1):
            np.testing.assert_array_equal(future.result()[0], rows(2 * i, 2 * i + 1))
    assert inner.shapes == [(1,), (12,)]


def test_an_empty_request_does_not_end_the_batching_of_those_after_it(batched, eventually):
    inner = Doubler()
    runtime = batched(inner, max_batch_size=4, allowed_batch_sizes=(2, 4))
    assert runtime.run(X, [rows()], Y)[0].shape == (0,)
    inner.shapes.clear()
    with ThreadPoolExecutor(3) as pool:
        held(inner, runtime, pool)
        empty = pool.submit(runtime.run, X, [rows()], Y)
        time.sleep(0.1)  # until it waits at the front of the next batch
        full = pool.submit(runtime.run, X, [rows(1, 2, 3)], Y)
        eventually(lambda: runtime.queued_rows == 3, 5)
        inner.gate.set()
        assert empty.result()[0].shape == (0,)
        np.testing.assert_array_equal(full.result()[0], rows(2, 4, 6))
    assert inner.shapes == [(2,), (4,)], "batches are still padded to the allowed sizes"


def test_requests_to_an_idle_server_do_not_wait_for_a_batch(batched):
    runtime = batched(Doubler(), batch_timeout_micros=200_000_000)
    began = time.monotonic()
    for _ in range(3):
        assert runtime.run(X, [rows(3)], Y)[0].tolist() == [6.0]
    assert time.monotonic() - began < 100


def test_requests_are_gathered_until_the_timeout_while_another_runs(batched):
    inner = Doubler()
    runtime = batched(inner, batch_timeout_micros=300_000, num_batch_threads=2)
    with ThreadPoolExecutor(4) as pool:
        held(inner, runtime, pool)
        began = time.monotonic()
        futures = [pool.submit(runtime.run, X, [rows(i)], Y) for i in (1, 2)]
        inner.gate.wait(0.1)
        assert len(inner.shapes) == 1  # still gathering
        while len(inner.shapes) < 2:
            time.sleep(0.005)
        assert time.monotonic() - began > 0.2
        inner.gate.set()
        assert [f.result()[0].tolist() for f in futures] == [[2.0], [4.0]]
    assert inner.shapes[1] == (2,)


def test_too_many_rows_are_refused_or_split(batched):
    with pytest.raises(StatusError, match="Task size 5 is larger than maximum input batch size 4"):
        batched(Doubler(), max_batch_size=4).run(X, [np.ones(5, np.float32)], Y)
    inner = Doubler()
    runtime = batched(
        inner, max_batch_size=5, enable_large_batch_splitting=True, max_execution_batch_size=2
    )
    with pytest.raises(StatusError, match="Task size 6 is larger than maximum input batch size 5"):
        runtime.run(X, [np.ones(6, np.float32)], Y)
    assert runtime.run(X, [rows(1, 2, 3, 4, 5)], Y)[0].tolist() == [2, 4, 6, 8, 10]
    assert max(shape[0] for shape in inner.shapes) == 2


def test_a_full_queue_is_unavailable(batched):
    inner = Doubler()
    runtime = batched(inner, max_batch_size=1, max_enqueued_batches=2)
    with ThreadPoolExecutor(4) as pool:
        first = held(inner, runtime, pool)
        waiting = [pool.submit(runtime.run, X, [rows(1)], Y) for _ in range(2)]
        while runtime.queued_rows < 2:
            time.sleep(0.001)
        with pytest.raises(StatusError, match="is full") as error:
            runtime.run(X, [rows(9)], Y)
        assert error.value.code == Code.UNAVAILABLE
        inner.gate.set()
        assert [f.result()[0].tolist() for f in [first, *waiting]] == [[0], [2], [2]]


def test_batches_are_padded_to_an_allowed_size_and_the_padding_is_removed(batched):
    inner = Doubler()
    runtime = batched(inner, max_batch_size=8, allowed_batch_sizes=(4, 8))
    assert runtime.run(X, [rows(1, 2, 3)], Y)[0].tolist() == [2, 4, 6]
    assert inner.shapes == [(4,)]


@pytest.mark.parametrize(("padding", "shapes"), [(True, {(2, 3)}), (False, {(1, 2), (1, 3)})])
def test_rows_of_unequal_shape_are_padded_or_batched_separately(batched, padding, shapes):
    inner = Doubler()
    runtime = batched(inner, pad_variable_length_inputs=padding)
    with ThreadPoolExecutor(4) as pool:
        held(inner, runtime, pool)
        small = pool.submit(runtime.run, X, [np.float32([[1, 2]])], Y)
        large = pool.submit(runtime.run, X, [np.float32([[3, 4, 5]])], Y)
        while runtime.queued_rows < 2:
            time.sleep(0.001)
        inner.gate.set()
        assert small.result()[0][0, :2].tolist() == [2, 4]
        assert large.result()[0].tolist() == [[6, 8, 10]]
    assert set(inner.shapes[1:]) == shapes


def test_one_bad_request_fails_alone(batched):
    inner = Doubler()
    runtime = batched(inner)
    with ThreadPoolExecutor(4) as pool:
        held(inner, runtime, pool)
        good = pool.submit(runtime.run, X, [rows(1)], Y)
        bad = pool.submit(runtime.run, X, [rows(-1)], Y)
        while runtime.queued_rows < 2:
            time.sleep(0.001)
        inner.gate.set()
        assert good.result()[0].tolist() == [2]
        with pytest.raises(StatusError, match="negative"):
            bad.result()


def test_requests_for_outputs_that_cannot_be_split_run_alone_from_then_on(batched):
    inner = Doubler()
    runtime = batched(inner)
    assert runtime.run(X, [rows(1, 2)], ["size"])[0] == 2
    assert inner.shapes == [(2,), (2,)]
    assert runtime.run(X, [rows(1, 2)], ["size"])[0] == 2
    assert len(inner.shapes) == 3


def test_an_expired_request_is_not_run(batched):
    inner = Doubler()
    runtime = batched(inner)
    with ThreadPoolExecutor(4) as pool:
        held(inner, runtime, pool)
        with pytest.raises(StatusError, match="Deadline") as error:
            runtime.run(X, [rows(7)], Y, 0.05)
        assert error.value.code == Code.DEADLINE_EXCEEDED
        inner.gate.set()
    assert runtime.run(X, [rows(1)], Y)[0].tolist() == [2]
    assert inner.shapes == [(1,), (1,)]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([np.float32(1)], "at least one dimension"),
        ([rows(1), rows(1, 2)], "equal 0th-dimension size"),
    ],
)
def test_inputs_that_cannot_be_batched_are_refused(batched, values, words):
    with pytest.raises(StatusError, match=words):
        batched(Doubler()).run(["x", "z"][: len(values)], values, Y)


def test_many_clients_get_their_own_answers(batched):
    runtime = batched(Doubler(0.001), max_batch_size=16, num_batch_threads=2)

    def ask(i: int) -> bool:
        return runtime.run(X, [rows(i)], Y, 10.0)[0].tolist() == [2.0 * i]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(500)))


def test_many_rows_run_in_slices(monkeypatch):
    monkeypatch.setattr(batcher, "MAX_ROWS", 200)
    inner = Doubler()
    runtime = SlicedRuntime(inner)
    found = runtime.run(X, [np.arange(150.0)], Y)
    np.testing.assert_array_equal(found[0], 2 * np.arange(150.0))
    assert inner.shapes == [(64,), (64,), (22,)]
    assert runtime.run(X, [np.float32(3)], Y) == [6]
    with pytest.raises(StatusError, match="201 rows; 200 are allowed") as error:
        runtime.run(X, [np.ones(201)], Y)
    assert error.value.code == Code.INVALID_ARGUMENT


def test_slices_stop_at_the_deadline_although_the_runtime_ignores_it():
    inner = Doubler(0.01)
    with pytest.raises(StatusError, match="after 64 of 150 rows") as error:
        SlicedRuntime(inner).run(X, [np.arange(150.0)], Y, 0.001)
    assert error.value.code == Code.DEADLINE_EXCEEDED
    assert len(inner.shapes) == 1


def test_an_output_without_rows_is_that_of_the_first_slice():
    y, size = SlicedRuntime(Doubler()).run(X, [np.arange(100.0)], ["y", "size"])
    assert (len(y), size) == (100, 64)
