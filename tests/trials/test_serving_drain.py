"""SIGTERM and overload: running requests finish, excess ones are refused, memory does not grow.

The trials are 20 drains with 16 running requests while more arrive, ten times the load that the
server can handle, and a queue of 1,000 requests for which nobody waits any more.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.grpc_port import MAX_STREAMS
from tests.serving.conftest import write_half_plus_two
from tests.serving.quick import running

from .serving_program import MEGABYTE, PREDICT, Tally, call, clients, program, request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
DRAINS, IN_FLIGHT = 20, 16
OVERLOAD_S, DEADLINE_S = 15.0, 5.0
EXPIRED = 1000
HELD_S = 8.0  # longer than a busy machine takes to send as many requests
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
TWO = request(x=np.float32([2.0]))


def slow(seconds: float) -> bytes:
    """Return a request that computes for a number of seconds, whatever else the machine does."""
    return request("slow", seconds=np.float32(seconds))


def steps(number: int) -> bytes:
    """Return a request that computes a number of steps, which take longer on a busy machine."""
    return request("steps", number=np.int32(number))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return a folder with the base path of half_plus_two, `m`."""
    base = tmp_path_factory.mktemp("drain")
    write_half_plus_two(base / "m" / "1")
    return base


def drain(target: str, stop, seconds: float, settle: float = 0.5) -> tuple[Tally, Tally, float]:
    """Stop a server under load.

    Returns the tally of the requests that were running, the tally of those that came later, and the
    seconds until the health service reports that the server is unhealthy.
    """
    running, later = Tally(), Tally()
    stopped = threading.Event()
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(target, options)
    raw = channel.unary_unary(PREDICT)

    def newcomers() -> None:
        while not stopped.is_set():
            call(raw, TWO, 10, later)
            time.sleep(0.005)  # 200 per second

    newcomer = threading.Thread(target=newcomers)
    health = health_pb2_grpc.HealthStub(channel)
    began = time.monotonic()
    in_flight = [raw.future(slow(seconds), timeout=120) for _ in range(IN_FLIGHT)]
    # Requests of one connection arrive in order, so those before this one have arrived, too.
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
    newcomer.start()
    time.sleep(settle)
    try:
        stopping = time.monotonic()
        stop()
        while health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1:
            time.sleep(0.001)
        unhealthy = time.monotonic() - stopping
    finally:
        for future in in_flight:
            error = future.exception()
            code = "OK" if error is None else future.code().name
            running.add(code, time.monotonic() - began, "" if error is None else future.details())
        stopped.set()
        newcomer.join()
        channel.close()
    return running, later, unhealthy


def test_twenty_drains_abort_no_running_request(base):
    codes, later_codes, times, clean = {}, set(), [], 0
    for _ in range(DRAINS):
        server = ModelServer("m", base / "m")
        server.start()
        server.wait_until_available(60)
        clients(server.target, 1, lambda ask: ask(slow(0), 60) and None)
        ended: list[bool] = []
        stopping = threading.Thread(target=lambda s=server, e=ended: e.append(s.stop(30)))
        running, later, seconds = drain(server.target, stopping.start, 0.4, 0.15)
        stopping.join()
        clean += ended == [True]
        times.append(seconds)
        later_codes |= set(later.codes)
        for code, count in running.codes.items():
            codes[code] = codes.get(code, 0) + count
    print(f"{DRAINS} drains: {codes}; unhealthy after {max(times) * 1000:.0f} ms at most")
    assert clean == DRAINS
    assert later_codes <= {"OK", "UNAVAILABLE", "CANCELLED"}
    # A request that was not yet accepted counts as new: it is refused, but never cut off.
    assert set(codes) <= {"OK", "UNAVAILABLE"}
    assert codes["OK"] >= 0.9 * DRAINS * IN_FLIGHT


def test_ten_times_the_load_is_refused_and_the_server_recovers(base):
    flags = ("--model_name=m", f"--model_base_path={base / 'm'}", "--max_queued_requests=32")
    work = steps(60)
    with program(base / "log-overload", *flags, "--grpc_max_threads=8") as server:
        alone = clients(server.target, 2, lambda ask: [ask(work, 60) for _ in range(20)] and None)
        before = server.rss()
        end = time.monotonic() + OVERLOAD_S

        def press(ask) -> None:
            while time.monotonic() < end:
                if ask(work, DEADLINE_S) is None:
                    time.sleep(0.01)

        found = clients(server.target, 160, press)
        grown = server.rss() - before
        began = time.monotonic()
        after = clients(server.target, 1, lambda ask: ask(TWO, 10) and None)
        recovery = time.monotonic() - began
    print(
        f"{dict(found.codes)}; accepted p99 {found.quantile(0.99):.2f} s of {DEADLINE_S:g} "
        f"(alone {alone.quantile(0.5):.3f}); {grown / MEGABYTE:.0f} MiB; back in {recovery:.2f} s"
    )
    allowed = {"OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
    assert set(found.codes) <= allowed, found.messages
    assert found.codes["OK"] > 50 and found.codes["RESOURCE_EXHAUSTED"] > 100
    assert found.codes["DEADLINE_EXCEEDED"] <= 0.02 * sum(found.codes.values())
    assert found.quantile(0.99) < DEADLINE_S
    assert grown < 128 * MEGABYTE
    assert after.codes == {"OK": 1} and recovery < 2


def test_a_thousand_expired_requests_are_not_executed(base):
    with running(base / "m", grpc_max_threads=1, max_queued_requests=0) as server:
        seen = []
        server.calls.observers.append(seen.append)
        with contextlib.ExitStack() as stack:
            # One connection would not be enough: a busy server refuses streams beyond MAX_STREAMS
            # that the client opens before the server has read that expired ones are closed.
            channels = [
                stack.enter_context(grpc.insecure_channel(server.target, OWN_CONNECTION))
                for _ in range(EXPIRED // (MAX_STREAMS // 2) + 1)
            ]
            for channel in channels:
                grpc.channel_ready_future(channel).result(60)
            calls = itertools.cycle(channel.unary_unary(PREDICT) for channel in channels)
            raw = next(calls)
            raw(slow(0), timeout=60)
            began = time.monotonic()
            holding = raw.future(slow(HELD_S), timeout=60)
            while server.calls.pool.load() != (0, 1):
                assert time.monotonic() < began + HELD_S
                time.sleep(0.01)
            late = [one.future(slow(0.1), timeout=0.3) for one in itertools.islice(calls, EXPIRED)]
            codes = {future.code().name for future in late}
            holding.result()
            held = time.monotonic() - began
            raw(TWO, timeout=60)
        seen.sort(key=lambda one: one.run_seconds)
        wasted = sum(one.run_seconds for one in seen if one.code != 0)
        answered = sum(one.code == 0 for one in seen)
    print(f"{EXPIRED} expired behind {held:.1f} s of work: {wasted * 1000:.1f} ms in the model")
    assert codes == {"DEADLINE_EXCEEDED"}
    assert answered == 3 and wasted < 0.05
