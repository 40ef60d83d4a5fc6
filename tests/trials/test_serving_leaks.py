"""A server that runs for weeks: memory, threads and files do not grow.

A version is loaded and unloaded 100 times, and 100,000 requests are answered.
"""

import shutil
import time

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from tests.serving.conftest import write_half_plus_two

from .serving_program import MEGABYTE, clients, program, request, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(290)]
CYCLES, SETTLED = 100, 10
REQUESTS, CLIENTS = 100_000, 8
WARM = 10_000
TWO = request(x=np.float32([2.0]))


def available(target: str) -> int:
    wanted = get_model_status_pb2.GetModelStatusRequest()
    wanted.model_spec.name = "m"
    with grpc.insecure_channel(target) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        lines = stub.GetModelStatus(wanted, timeout=20).model_version_status
    ready = [line.version for line in lines if line.state == 30]
    return ready[0] if len(ready) == 1 else -1


def test_a_hundred_loads_and_unloads_leak_nothing(tmp_path):
    source, base = write_half_plus_two(tmp_path / "source"), tmp_path / "base"
    shutil.copytree(source, base / "1")
    flags = ("--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.05")
    with program(tmp_path / "log", *flags) as server:
        sizes, handles = [], []
        for version in range(2, CYCLES + 2):
            shutil.copytree(source, base / ".tmp")
            (base / ".tmp").rename(base / str(version))
            end = time.monotonic() + 60
            while available(server.target) != version:
                assert time.monotonic() < end
                time.sleep(0.02)
            clients(server.target, 1, lambda ask: ask(TWO, 30) and None)
            shutil.rmtree(base / str(version - 1))
            sizes.append(server.rss())
            handles.append(server.handles())
    grown = sizes[-1] / sizes[SETTLED] - 1
    print(
        f"{CYCLES} cycles: memory {sizes[SETTLED] / MEGABYTE:.0f} to {sizes[-1] / MEGABYTE:.0f} "
        f"MiB ({grown:+.1%}), threads and files {handles[SETTLED]} to {handles[-1]}"
    )
    assert grown < 0.10
    assert handles[-1][0] <= handles[SETTLED][0] + 4
    assert handles[-1][1] <= handles[SETTLED][1] + 4


def test_a_hundred_thousand_requests_leak_nothing(tmp_path):
    # With so few threads, all of them exist after the warm-up.
    with served(tmp_path, write_half_plus_two, "--grpc_max_threads=8") as server:

        def ask_many(count: int):
            return clients(
                server.target,
                CLIENTS,
                lambda ask: [None for _ in range(count // CLIENTS) if not ask(TWO, 30)] and None,
            )

        ask_many(WARM)
        before, handles = server.rss(), server.handles()
        found = ask_many(REQUESTS)
        time.sleep(1)
        grown, after = server.rss() / before - 1, server.handles()
    print(
        f"{dict(found.codes)}: memory {before / MEGABYTE:.0f} MiB {grown:+.2%}, threads and files "
        f"{handles} to {after}, p50 {found.quantile(0.5) * 1000:.2f} ms"
    )
    assert found.codes == {"OK": REQUESTS}
    assert grown < 0.02
    assert after[0] <= handles[0] + 2 and after[1] <= handles[1] + 2
