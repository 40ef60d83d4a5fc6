"""Versions and models come, go and fail to load; what is available keeps serving."""

import hashlib
import json
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgpipe.serving.client import Client, NotFound, ServingError, Unavailable
from imgpipe.serving.server.manager import ModelManager
from imgpipe.serving.server.runtime import Runtime
from imgpipe.serving.server.server import ModelServer
from imgpipe.serving.server.status import Code
from tests.serving.conftest import write_warm_up
from tests.serving.quick import POLL_S, Rest, eventually, quick

TWO = {"x": np.float32([2.0])}


@pytest.fixture
def serve(tmp_path):
    """Return a function that serves a folder as the model `m`, and returns server and client."""
    servers = []

    def start(base=None, **changes):
        server = ModelServer("m", base or tmp_path / "base", quick(**changes))
        servers.append(server)
        server.start()
        return server, Client(server.target, "m", attempts=1)

    yield start
    for server in servers:
        server.stop(5)


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base"
    path.mkdir()
    return path


@pytest.fixture
def served(serve, push, base):
    """Serve version 1 of half_plus_two as `m`, and return the server with a client."""
    push("half_plus_two", base, 1)
    server, client = serve()
    assert server.wait_until_available(30) == 1
    return server, client


def states(client) -> list[tuple[int, str]]:
    """Return version and state of each version; empty until the first load is over."""
    try:
        return [(line.version, line.state) for line in client.status()]
    except (NotFound, Unavailable):
        return []


def ask(server, model="m", **which) -> tuple[int, float]:
    with Client(server.target, model, attempts=1, **which) as client:
        answer = client.predict(TWO)
    return answer.version, float(answer.outputs["y"][0])


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
        (bad / "manifest.json").write_text(json.dumps({"files": {"saved_model.pb": wrong}}))
    bad.rename(base / str(version))


def test_the_newest_version_serves_and_the_one_before_comes_back(served, push, base):
    server, client = served
    push("half_plus_three", base, 2)
    eventually(lambda: states(client) == [(2, "AVAILABLE"), (1, "END")])
    assert ask(server) == (2, 4.0)
    with pytest.raises(NotFound, match=r"Specific\(m, 1\)"):
        ask(server, version=1)
    shutil.rmtree(base / "2")
    eventually(lambda: states(client) == [(2, "END"), (1, "AVAILABLE")])
    assert ask(server) == (1, 3.0)


def test_an_incomplete_version_says_what_is_missing_until_it_is_mended(serve, push, base, caplog):
    push("half_plus_two", base, 1)
    graph = (base / "1" / "saved_model.pb").read_bytes()
    entry = {"sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph)}
    files = {"saved_model.pb": entry, "assets/vocabulary.txt": entry}
    (base / "1" / "manifest.json").write_text(json.dumps({"files": files}))
    server, client = serve()
    eventually(lambda: "vocabulary.txt is missing" in caplog.text)
    with pytest.raises(Unavailable, match=r"version 1 START \(assets/vocabulary\.txt is missing"):
        ask(server)
    (base / "1" / "manifest.json").write_text(json.dumps({"files": {"saved_model.pb": entry}}))
    eventually(lambda: states(client) == [(1, "AVAILABLE")])


def test_swaps_under_load_fail_no_request(served, push, base):
    """Every answer must be correct for the version that it names."""
    swaps, clients = 4, 6
    server, watcher = served
    done = threading.Event()
    failures: list[str] = []
    counts: list[int] = []

    def ask_on() -> None:
        count = 0
        with Client(server.target, "m", timeout=20, attempts=1) as client:
            while not done.is_set():
                try:
                    answer = client.predict(TWO)
                except ServingError as error:
                    failures.append(repr(error))
                    continue
                if answer.outputs["y"].tolist() != [3.0 if answer.version % 2 else 4.0]:
                    failures.append(f"{answer}")
                count += 1
        counts.append(count)

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(ask_on) for _ in range(clients)]
        try:
            for version in range(2, swaps + 2):
                push("half_plus_two" if version % 2 else "half_plus_three", base, version)
                wanted = [(version, "AVAILABLE"), (version - 1, "END")]
                eventually(lambda w=wanted: states(watcher)[:2] == w)
            for version in range(swaps + 1, 1, -1):  # and back to version 1
                shutil.rmtree(base / str(version))
                eventually(lambda v=version: (v - 1, "AVAILABLE") in states(watcher))
        finally:
            done.set()
        for future in futures:
            future.result()
    assert failures == []
    assert sum(counts) > 100


def test_a_running_request_keeps_its_version(served, push, base):
    server, client = served
    client.predict({"seconds": np.float32(0)}, "slow")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.predict, {"seconds": np.float32(0.9)}, "slow")
        time.sleep(0.1)
        push("half_plus_three", base, 2)
        eventually(lambda: (2, "AVAILABLE") in states(client))
        assert ask(server)[0] == 2
        assert running.result().version == 1
    eventually(lambda: states(client) == [(2, "AVAILABLE"), (1, "END")])


def test_at_start_the_newest_undamaged_version_is_served(serve, push, base):
    push("half_plus_two", base, 1)
    push_damaged(base, 2, "weights")
    push_damaged(base, 3, "checksum")
    server, client = serve()
    assert server.wait_until_available(30) == 1
    assert ask(server) == (1, 3.0)
    assert states(client) == [(3, "END"), (2, "END"), (1, "AVAILABLE")]
    said = client.status(3)[0]
    assert said.error_code == Code.DATA_LOSS
    words = "is not the version that was published: saved_model.pb has changed"
    assert words in said.error_message
    push("half_plus_three", base, 4)
    eventually(lambda: states(client)[0] == (4, "AVAILABLE"))
    assert ask(server) == (4, 4.0)


@pytest.mark.parametrize("damage", ["graph", "manifest"])
def test_a_bad_new_version_leaves_the_old_one_serving(served, base, damage):
    server, client = served
    push_damaged(base, 2, damage)
    eventually(lambda: states(client) == [(2, "END"), (1, "AVAILABLE")])
    line = client.status(2)[0]
    assert line.error_code != 0 and line.error_message and "\n" not in line.error_message
    time.sleep(4 * POLL_S)  # the load is not repeated
    assert states(client) == [(2, "END"), (1, "AVAILABLE")] and ask(server) == (1, 3.0)
    good = (base / "1" / "saved_model.pb").read_bytes()
    (base / "2" / "saved_model.pb").write_bytes(good)
    (base / "2" / "manifest.json").unlink(missing_ok=True)
    eventually(lambda: states(client)[0] == (2, "AVAILABLE"))  # after the repair


def test_warm_up_runs_before_available_and_its_failure_fails_the_load(serve, push, base):
    write_warm_up(push("half_plus_two", base, 1), **TWO)
    server, client = serve()
    assert server.wait_until_available(30) == 1
    bad = push("unservable", base.parent / "aside", 2)
    write_warm_up(bad, x=np.zeros((1, 4), np.float32))
    bad.rename(base / "2")
    eventually(lambda: states(client) == [(2, "END"), (1, "AVAILABLE")])
    message = client.status(2)[0].error_message
    assert message.startswith("assets.extra/tf_serving_warmup_requests: ")
    assert "Could not find variable" in message
    file = base / "2" / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(b"not a record file at all")
    eventually(lambda: "corrupted record at 0" in client.status(2)[0].error_message)


def test_a_growing_version_is_not_loaded_before_it_is_complete(served, base, models):
    """Without a manifest only time tells that the graph file is not complete yet."""
    _, client = served
    source, target = models("half_plus_three"), base / "2"
    target.mkdir()
    eventually(lambda: states(client) == [(2, "START"), (1, "AVAILABLE")])
    found = client.status(2)[0]
    assert (found.error_code, found.error_message) == (14, "saved_model.pb is not there")
    shutil.copytree(source / "variables", target / "variables")
    data = (source / "saved_model.pb").read_bytes()
    with (target / "saved_model.pb").open("wb") as file:
        for start in range(0, len(data), len(data) // 8):
            file.write(data[start : start + len(data) // 8])
            file.flush()
            time.sleep(2 * POLL_S)
            assert states(client) == [(2, "START"), (1, "AVAILABLE")]
    eventually(lambda: states(client)[0] == (2, "AVAILABLE"))


def test_a_base_path_that_vanishes_or_empties_changes_nothing(served, base):
    server, client = served
    base.rename(base.with_name("away"))
    for change in (lambda: None, base.mkdir):
        change()
        for _ in range(4):
            time.sleep(POLL_S)
            assert ask(server) == (1, 3.0)
    assert states(client) == [(1, "AVAILABLE")]


@pytest.mark.parametrize(("failures", "attempts"), [(2, 3), (99, 6)])
def test_a_failed_load_is_tried_again_a_few_times(push, base, monkeypatch, failures, attempts):
    monkeypatch.setattr("imgpipe.serving.server.version.RETRY_S", 0.0)
    push("half_plus_two", base, 1)
    tried = []

    def load(folder):
        tried.append(folder)
        if len(tried) <= failures:
            raise OSError("no more files")
        return Runtime(folder)

    manager = ModelManager(load, quick(model_name="m", model_base_path=str(base)))
    for _ in range(8):
        manager.poll()
    assert len(tried) == attempts
    assert manager.available == (1 if failures < attempts else None)
    manager.stop()


def test_a_model_is_unavailable_until_its_load_was_attempted(serve, push, base):
    server, _ = serve(rest_api_port=-1)
    rest = Rest(server)
    for model in ("m", "intentionally_missing_model"):
        with pytest.raises(Unavailable, match=r"still loading its model \(m\)"):
            ask(server, model)
        for answer in (rest.predict({"instances": [2.0]}, model), rest.get(f"/v1/models/{model}")):
            assert answer.status == 503 and "still loading its model (m)" in answer.error()
    assert rest.get("/v1/health/ready").status == 503
    push("half_plus_two", base, 1)
    server.wait_until_available(60)
    assert rest.get("/v1/health/ready").status == 200
    assert ask(server) == (1, 3.0)
    words = r"Servable not found for request: Latest\(nope\)\. This server serves one model: m\."
    with pytest.raises(NotFound, match=f"{words} TensorFlow Serving reads the same folders"):
        ask(server, "nope")


@pytest.mark.parametrize(("name", "number"), [("2", 2), ("trained", 0)])
def test_a_folder_of_one_model_is_served_alone(serve, push, base, tmp_path, name, number):
    push("half_plus_two", base, 3)
    push("half_plus_two", base, 2).rename(base / name)
    server, client = serve(base / name)
    server.wait_until_available(60)
    assert ask(server) == (number, 3.0) and states(client) == [(number, "AVAILABLE")]


def test_the_server_listens_on_127_0_0_1_only(half):
    with socket.socket() as probe:  # succeeds, because the server listens on 127.0.0.1 only
        probe.bind(("127.0.0.2", int(half.rsplit(":", 1)[1])))


def test_the_server_listens_on_an_ipv6_address(push, base):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no ::1 ({error})")
    push("half_plus_two", base, 1)
    with ModelServer("m", base, quick(host="::1", rest_api_port=-1)) as server:
        server.wait_until_available(30)
        assert server.target.startswith("[::1]:") and server.rest_target.startswith("http://[::1]")
        assert ask(server) == (1, 3.0)


def test_stop_aborts_requests_that_still_run_after_the_grace_period(served, base):
    server, client = served
    with ThreadPoolExecutor(1) as pool:
        client.predict({"seconds": np.float32(0)}, "slow")
        running = pool.submit(client.predict, {"seconds": np.float32(3)}, "slow")
        time.sleep(0.2)
        assert server.stop(0.1) is False
        with pytest.raises(ServingError, match=r"Cancelling all calls|No model server"):
            running.result()
