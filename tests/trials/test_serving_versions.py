"""A hundred versions replace each other under 16 clients without a failed request."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from imgpipe.serving.server import ModelServer
from tests.serving.conftest import write_half_plus_two
from tests.serving.quick import running

from .serving_program import Tally, clients, request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
SWAPS, CLIENTS, VARIANTS = 100, 16, 10
TWO = request(x=np.float32([2.0]))


@pytest.fixture(scope="module")
def variants(tmp_path_factory) -> Path:
    """Return a folder of models `0` to `9`.

    Each answers 2.0 with 1 plus its number.
    """
    root = tmp_path_factory.mktemp("variants")
    for number in range(VARIANTS):
        write_half_plus_two(root / str(number), float(number))
    return root


@pytest.fixture
def base(tmp_path) -> Path:
    """Return an empty base path."""
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


def push(variants: Path, base: Path, version: int) -> None:
    """Publish a version as the Pusher does: copy it under a temporary name, then rename it."""
    beside = base / f".tmp-{version}"
    shutil.copytree(variants / str(version % VARIANTS), beside)
    beside.rename(base / str(version))


def wrong(answer: bytes) -> str:
    """Return a message if the value of an answer does not belong to the version it names."""
    reply = predict_pb2.PredictResponse.FromString(answer)
    version, value = reply.model_spec.version.value, reply.outputs["y"].float_val[0]
    return "" if value == 1.0 + version % VARIANTS else f"version {version} said {value}"


def loaded(server: ModelServer) -> list[int]:
    """Return the available versions of the model `m`."""
    return server.core.model.available()


def until(check, seconds: float = 60.0) -> None:
    """Wait until a check returns true; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.005)


def under_load(server: ModelServer, act, count: int = CLIENTS) -> tuple[Tally, list[str]]:
    """Send requests without a pause while `act` runs; return the tally and all mistakes."""
    done, mistakes = threading.Event(), []

    def work(ask) -> None:
        while not done.is_set():
            answer = ask(TWO, 60)
            if answer is not None and (mistake := wrong(answer)):
                mistakes.append(mistake)

    def do() -> None:
        try:
            act()
        except BaseException as error:
            mistakes.append(repr(error))
        finally:
            done.set()

    acting = threading.Thread(target=do)
    acting.start()
    try:
        return clients(server.target, count, work), mistakes
    finally:
        done.set()
        acting.join()


def test_a_hundred_swaps_fail_no_request(variants, base):
    push(variants, base, 1)
    with running(base) as server:
        steady, _ = under_load(server, lambda: time.sleep(3))

        def swap() -> None:
            for version in range(2, SWAPS + 2):
                push(variants, base, version)
                until(lambda v=version: loaded(server) == [v])
                shutil.rmtree(base / str(version - 1))

        found, mistakes = under_load(server, swap)
    ratio = found.quantile(0.99) / steady.quantile(0.99)
    print(f"{dict(found.codes)} over {SWAPS} swaps, p99 {ratio:.1f} x steady")
    assert mistakes == []
    assert set(found.codes) == {"OK"}, found.messages
    assert found.codes["OK"] > 20 * SWAPS
