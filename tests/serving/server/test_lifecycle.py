"""Versions are added, replaced, fail to load and vanish; an available one keeps serving."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgpipe.serving.client import Client, NotFound, ServingError, Unavailable
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.runtime import SessionRuntime
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.server.versions.config import ModelConfig, VersionPolicy
from imgpipe.serving.server.versions.manager import ModelManager
from imgpipe.serving.server.versions.version import State
from tests.serving.quick import POLL_S, quick

TWO = {"x": np.float32([2.0])}


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts a server and returns it with a client.

    The server has the model ``m`` with the base path ``tmp_path / "base"``.
    """
    servers = []

    def start(**changes):
        server = ModelServer("m", tmp_path / "base", quick(**changes))
        server.start()
        client = Client(server.target, "m")
        servers.append((server, client))
        return server, client

    yield start
    for server, client in servers:
        client.close()
        server.stop(5)


@pytest.fixture
def base(tmp_path):
    """Return the empty base path of the model ``m``."""
    path = tmp_path / "base"
    path.mkdir()
    return path


def states(client) -> list[tuple[int, str]]:
    """Return version and state of each version, or an empty list if the model is not found."""
    try:
        return [(line.version, line.state) for line in client.status()]
    except NotFound:
        return []


def test_a_newer_version_takes_over_and_status_is_newest_first(serve, push, base, eventually):
    push("half_plus_two", base, 1)
    server, client = serve()
    assert server.wait_until_available(30) == 1
    assert client.predict(TWO).outputs["y"].tolist() == [3.0]
    push("half_plus_three", base, 2)
    eventually(lambda: states(client) == [(2, "AVAILABLE"), (1, "END")])
    answer = client.predict(TWO)
    assert (answer.version, answer.outputs["y"].tolist()) == (2, [4.0])
    with pytest.raises(NotFound, match=r"Specific\(m, 1\)"):
        Client(server.target, "m", version=1).predict(TWO)


def test_removing_the_newest_version_loads_the_one_before(serve, push, base, eventually):
    push("half_plus_two", base, 1)
    push("half_plus_three", base, 2)
    server, client = serve()
    assert server.wait_until_available(30) == 2
    assert states(client) == [(2, "AVAILABLE")]
    shutil.rmtree(base / "2")
    eventually(lambda: states(client) == [(2, "END"), (1, "AVAILABLE")])
    assert client.predict(TWO).version == 1


def test_a_copy_with_old_file_times_is_loaded_only_after_it_stops_changing(
    push, base, models, monkeypatch
):
    """The files' modification times are old, and the clock is set forward.

    Neither counts: the files must stay unchanged for a time that the server measures itself.
    """
    push("half_plus_two", base, 1)
    settings = quick(file_system_poll_wait_seconds=0.4)
    manager = ModelManager(ModelConfig("m", base), SessionRuntime, settings)
    manager.poll()
    assert manager.available() == [1]
    shutil.copytree(models / "half_plus_three", base / "2")
    for file in base.glob("2/**/*"):
        os.utime(file, (1, 1))
    monkeypatch.setattr(time, "time", lambda: 2e9)
    for text in ("a", "an asset"):
        (base / "2" / "assets.txt").write_text(text)
        os.utime(base / "2" / "assets.txt", (1, 1))
        manager.poll()
        assert manager.available() == [1]
        found = manager.states()[0]
        assert (found.version, found.message) == (2, "its files are still changing")
    time.sleep(0.6)
    manager.poll()
    assert manager.available() == [2]
    manager.stop(5)


def test_a_request_during_a_swap_finds_the_new_version(push, base):
    """The new version becomes available, and the old one leaves, between two looks at them."""
    push("half_plus_two", base, 1)
    manager = ModelManager(ModelConfig("m", base), SessionRuntime, quick())
    manager.poll()
    old = manager._versions[1]

    class Arriving:
        state, asked = State.LOADING, 0

        def acquire(self):
            self.asked += 1
            if self.asked > 1:
                return "runtime of 2"
            self.state = State.AVAILABLE
            old.retire()
            return None

        def release(self):
            pass

    manager._versions = {1: old, 2: Arriving()}
    with manager.acquire(None) as (version, runtime):
        assert (version, runtime) == (2, "runtime of 2")
    manager._versions = {}
    manager.stop(5)


def test_swaps_under_load_fail_no_request(serve, push, base, eventually):
    """Every answer must be correct for the version that it names."""
    swaps, clients = 4, 6
    push("half_plus_two", base, 1)
    server, _ = serve()
    server.wait_until_available(30)
    done = threading.Event()
    failures: list[str] = []
    counts: list[int] = []

    def ask() -> None:
        count = 0
        with Client(server.target, "m", timeout=20) as client:
            while not done.is_set():
                try:
                    answer = client.predict(TWO)
                except ServingError as error:
                    failures.append(repr(error))
                    continue
                expected = 3.0 if answer.version % 2 else 4.0
                if answer.outputs["y"].tolist() != [expected]:
                    failures.append(f"{answer}")
                count += 1
        counts.append(count)

    with ThreadPoolExecutor(clients) as pool, Client(server.target, "m") as watcher:
        futures = [pool.submit(ask) for _ in range(clients)]
        try:
            for version in range(2, swaps + 2):
                push("half_plus_two" if version % 2 else "half_plus_three", base, version)
                eventually(
                    lambda v=version: states(watcher)[:2] == [(v, "AVAILABLE"), (v - 1, "END")]
                )
            for version in range(swaps + 1, 1, -1):  # and back to version 1
                shutil.rmtree(base / str(version))
                eventually(lambda v=version: (v - 1, "AVAILABLE") in states(watcher))
        finally:
            done.set()
        for future in futures:
            future.result()
    assert failures == []
    assert sum(counts) > 100


def test_a_running_request_keeps_its_version(serve, push, base, eventually):
    push("half_plus_two", base, 1)
    server, client = serve()
    server.wait_until_available(30)
    client.predict({"seconds": np.float32(0)}, "slow")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.predict, {"seconds": np.float32(0.9)}, "slow")
        time.sleep(0.1)
        push("half_plus_three", base, 2)
        eventually(lambda: (2, "AVAILABLE") in states(client))
        assert client.predict(TWO).version == 2
        assert running.result().version == 1
    eventually(lambda: states(client) == [(2, "AVAILABLE"), (1, "END")])


def push_damaged(base, version, damage):
    """Push a copy of version 1 whose graph, weights or manifest is damaged."""
    bad = base / f".tmp-{version}"
    shutil.copytree(base / "1", bad)
    if damage == "graph":
        (bad / "saved_model.pb").write_bytes(b"\x08\xff no saved model")
    elif damage == "weights":
        (bad / "variables" / "variables.index").write_bytes(b"no index")
    else:
        data = (bad / "saved_model.pb").read_bytes()
        wrong = {"sha256": hashlib.sha256(b"other").hexdigest(), "bytes": len(data)}
        files = {"files": {"saved_model.pb": wrong}}
        (bad / "manifest.json").write_text(json.dumps(files))
    bad.rename(base / str(version))


@pytest.mark.parametrize("retries", [0, 5])
@pytest.mark.parametrize("damage", ["weights", "checksum"])
def test_at_start_the_newest_undamaged_version_is_served(
    serve, push, base, eventually, damage, retries
):
    push("half_plus_two", base, 1)
    push_damaged(base, 2, damage)
    push_damaged(base, 3, "checksum")
    server, client = serve(max_load_retries=retries)
    assert server.wait_until_available(30) == 1
    assert client.predict(TWO).version == 1
    failed = "LOADING" if retries else "END"
    assert states(client) == [(3, failed), (2, failed), (1, "AVAILABLE")]
    if not retries:
        assert "is not the file that was published" in client.status(3)[0].error_message
    push("half_plus_three", base, 4)
    eventually(lambda: states(client)[0] == (4, "AVAILABLE"))
    assert client.predict(TWO).version == 4


def test_a_version_of_a_specific_policy_is_not_replaced_by_another(push, base, tmp_path):
    push("half_plus_two", base, 1)
    push_damaged(base, 2, "checksum")
    config = ModelConfig("m", base, policy=VersionPolicy("specific", versions=(2,)))
    with ModelServer(models=[config], settings=quick()) as server:
        with pytest.raises(StatusError, match="is not the file that was published"):
            server.wait_until_available(30)
        assert server.core.models["m"].available() == []


def test_polling_reads_only_the_folders_of_new_versions(serve, push, base, eventually):
    for version in (1, 2, 3):
        push("half_plus_two", base, version)
    server, client = serve()
    assert server.wait_until_available(30) == 3
    looked: list[str] = []
    watching = True

    def hook(event, arguments):
        if watching and event == "os.scandir" and str(arguments[0]).startswith(str(base)):
            looked.append(str(arguments[0]))

    sys.addaudithook(hook)
    eventually(lambda: len(looked) >= 5)
    assert set(looked) == {str(base)}, "its files are not looked at while it serves"
    push("half_plus_three", base, 4)
    eventually(lambda: states(client)[0] == (4, "AVAILABLE"))
    watching = False
    assert not any(f"{base}/{version}" in path for version in (1, 2, 3) for path in looked)
    assert str(base / "4") in looked


@pytest.mark.parametrize("damage", ["graph", "weights", "manifest"])
def test_a_bad_new_version_leaves_the_old_one_serving(serve, push, base, eventually, damage):
    push("half_plus_two", base, 1)
    server, client = serve()
    server.wait_until_available(30)
    push_damaged(base, 2, damage)
    eventually(lambda: states(client) == [(2, "END"), (1, "AVAILABLE")])
    line = client.status(2)[0]
    assert line.error_code != 0 and line.error_message and "\n" not in line.error_message
    assert client.predict(TWO).version == 1
    time.sleep(4 * POLL_S)  # the load is not repeated
    assert states(client) == [(2, "END"), (1, "AVAILABLE")]
    push("half_plus_three", base, 3)
    eventually(lambda: states(client)[0] == (3, "AVAILABLE"))


def test_a_failed_version_is_loaded_again_after_a_repair(serve, push, base, models, eventually):
    push("half_plus_two", base, 1)
    good = (base / "1" / "saved_model.pb").read_bytes()
    (base / "1" / "saved_model.pb").write_bytes(b"no graph")
    server, client = serve()
    with pytest.raises(StatusError, match="Version 1 of model m failed to load"):
        server.wait_until_available(30)
    (base / "1" / "saved_model.pb").write_bytes(good)
    eventually(lambda: states(client) == [(1, "AVAILABLE")])


def test_warm_up_runs_before_available_and_its_failure_fails_the_load(
    serve, push, base, warm_up, eventually
):
    warm_up(push("half_plus_two", base, 1), TWO)
    server, client = serve()
    assert server.wait_until_available(30) == 1
    bad = push("unservable", base.parent / "aside", 2)
    warm_up(bad, {"x": np.zeros((1, 4), np.float32)})
    bad.rename(base / "2")
    eventually(lambda: states(client) == [(2, "END"), (1, "AVAILABLE")])
    assert "Could not find variable" in client.status(2)[0].error_message
    assert client.predict(TWO).version == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not a record file at all", "TFRecord format"), (None, "exceeds the maximum")],
)
def test_a_bad_warm_up_file_fails_the_load(serve, push, base, warm_up, content, words):
    version = push("half_plus_two", base.parent / "aside", 1)
    warm_up(version, TWO, count=1001)
    if content is not None:
        (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(content)
    version.rename(base / "1")
    server, _ = serve()
    with pytest.raises(StatusError, match=words):
        server.wait_until_available(30)


def test_an_incomplete_version_is_shown_as_start(serve, base, eventually):
    (base / "3").mkdir()
    server, client = serve()
    eventually(lambda: states(client) == [(3, "START")])
    (line,) = client.status()
    assert (line.error_code, line.error_message) == (14, "saved_model.pb is not there")
    with pytest.raises(StatusError, match=r"saved_model\.pb is not there"):
        server.wait_until_available(0.3)


def test_a_base_path_that_vanishes_or_empties_changes_nothing(serve, push, base):
    push("half_plus_two", base, 1)
    server, client = serve()
    server.wait_until_available(30)
    away = base.with_name("away")
    base.rename(away)
    for _ in range(6):
        time.sleep(POLL_S)
        assert client.predict(TWO).version == 1
    base.mkdir()
    for _ in range(6):
        time.sleep(POLL_S)
        assert client.predict(TWO).version == 1
    assert states(client) == [(1, "AVAILABLE")]


def test_a_base_path_may_be_created_after_the_start(serve, push, tmp_path):
    server, client = serve()
    with pytest.raises(StatusError, match="cannot be read"):
        server.wait_until_available(0.3)
    with pytest.raises(Unavailable, match=r"still loading its models \(m\)"):
        client.status()
    push("half_plus_two", tmp_path / "base", 1)
    assert server.wait_until_available(30) == 1


def test_the_server_listens_on_127_0_0_1_only(half):
    with socket.socket() as probe:  # succeeds, because the server listens on 127.0.0.1 only
        probe.bind(("127.0.0.2", int(half.rsplit(":", 1)[1])))


def test_stop_lets_running_requests_finish_and_refuses_new_ones(push, base):
    push("half_plus_two", base, 1)
    server = ModelServer("m", base)
    server.start()
    server.wait_until_available(30)
    with Client(server.target, "m") as client, ThreadPoolExecutor(4) as pool:
        client.predict({"seconds": np.float32(0)}, "slow")
        running = [
            pool.submit(client.predict, {"seconds": np.float32(1)}, "slow") for _ in range(4)
        ]
        time.sleep(0.2)
        assert server.stop(30) is True
        assert [future.result().version for future in running] == [1] * 4
        with pytest.raises(ServingError, match="No model server is available"):
            client.predict(TWO)


def test_stop_aborts_requests_that_still_run_after_the_grace_period(push, base):
    push("half_plus_two", base, 1)
    server = ModelServer("m", base)
    server.start()
    server.wait_until_available(30)
    with Client(server.target, "m") as client, ThreadPoolExecutor(1) as pool:
        client.predict({"seconds": np.float32(0)}, "slow")
        running = pool.submit(client.predict, {"seconds": np.float32(3)}, "slow")
        time.sleep(0.2)
        assert server.stop(0.1) is False
        with pytest.raises(ServingError, match="No model server is available"):
            running.result()


def test_a_growing_file_is_not_loaded_before_it_is_complete(serve, push, base, models, eventually):
    """Without a manifest only time tells that the graph file is not complete yet."""
    push("half_plus_two", base, 1)
    server, client = serve()
    server.wait_until_available(30)
    source, target = models / "half_plus_three", base / "2"
    shutil.copytree(source / "variables", target / "variables")
    data = (source / "saved_model.pb").read_bytes()
    with (target / "saved_model.pb").open("wb") as file:
        for start in range(0, len(data), len(data) // 8):
            file.write(data[start : start + len(data) // 8])
            file.flush()
            time.sleep(2 * POLL_S)
            assert states(client) == [(2, "START"), (1, "AVAILABLE")]
    eventually(lambda: states(client)[0] == (2, "AVAILABLE"), 60)


def test_a_loaded_version_is_served_even_if_its_files_are_deleted(serve, push, base):
    push("half_plus_two", base, 1)
    push("half_plus_three", base, 2)
    server, client = serve()
    server.wait_until_available(30)
    (base / "2" / "saved_model.pb").unlink()
    for _ in range(6):
        time.sleep(POLL_S)
        assert client.predict(TWO).version == 2
    assert states(client) == [(2, "AVAILABLE")]
