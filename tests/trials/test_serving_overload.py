"""Ten times the load that the server can handle: the excess is refused, memory does not grow."""

import time

import numpy as np
import pytest

from tests.serving.conftest import write_half_plus_two

from .serving_program import MEGABYTE, clients, program, request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
OVERLOAD_S, DEADLINE_S = 15.0, 5.0
TWO = request(x=np.float32([2.0]))


def test_ten_times_the_load_is_refused_and_the_server_recovers(tmp_path):
    write_half_plus_two(tmp_path / "m" / "1")
    flags = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--max_queued_requests=32")
    work = request("steps", number=np.int32(60))  # they take longer on a busy machine
    with program(tmp_path / "log", *flags, "--grpc_max_threads=8") as server:
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
