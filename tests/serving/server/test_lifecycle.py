"""Versions and models come, go and fail to load; what is available keeps serving."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.serving.client import (
    Client,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
)
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.manager import ModelManager
from imgpipe.serving.server.model_configs import ModelConfig, VersionPolicy
from imgpipe.serving.server.runtime import Runtime
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.server.version import State
from tests.serving.quick import POLL_S, quick
from tests.serving.server.rest.conftest import Rest

TWO = {"x": np.float32([2.0])}


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts a server and returns it with a client of the model `m`.

    Without `models`, the server has the model `m` with the base path `tmp_path / "base"`.
    """
    servers = []

    def start(*models, **changes):
        models = models or [ModelConfig("m", tmp_path / "base")]
        server = ModelServer(models=models, settings=quick(**changes))
        servers.append(server)
        server.start()
        return server, Client(server.target, "m", attempts=1)

    yield start
    for server in servers:
        server.stop(5)


@pytest.fixture
def base(tmp_path):
    """Return the empty base path of the model `m`."""
    path = tmp_path / "base"
    path.mkdir()
    return path


@pytest.fixture
def bases(push, base, tmp_path):
    """Return a folder with two base paths: `base` has the versions 1 to 3, `other` has 1."""
    for version in (1, 2, 3):
        push("half_plus_two", base, version)
    push("half_plus_three", tmp_path / "other", 1)
    return tmp_path


def states(client) -> list[tuple[int, str]]:
    """Return version and state of each version; empty until the first load is over."""
    try:
        return [(line.version, line.state) for line in client.status()]
    except (NotFound, Unavailable):
        return []


def ask(server, model="m", **which) -> tuple[int, float]:
    """Return the version that answers x = 2, and its answer."""
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


def test_the_newest_version_serves_and_the_one_before_comes_back(serve, push, base, eventually):
    push("half_plus_two", base, 1)
    server, client = serve()
    assert server.wait_until_available(30) == 1
    push("half_plus_three", base, 2)
    eventually(lambda: states(client) == [(2, "AVAILABLE"), (1, "END")])
    assert ask(server) == (2, 4.0)
    with pytest.raises(NotFound, match=r"Specific\(m, 1\)"):
        ask(server, version=1)
    shutil.rmtree(base / "2")
    eventually(lambda: states(client) == [(2, "END"), (1, "AVAILABLE")])
    assert ask(server) == (1, 3.0)


def test_a_version_that_stays_incomplete_says_that_it_cannot_be_loaded_until_it_is_mended(
    serve, push, base, eventually, monkeypatch, caplog
):
    monkeypatch.setattr("imgpipe.serving.server.version._STALLED_S", 0.2)
    push("half_plus_two", base, 1)
    graph = (base / "1" / "saved_model.pb").read_bytes()
    entry = {"sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph)}
    files = {"saved_model.pb": entry, "assets/vocabulary.txt": entry}
    (base / "1" / "manifest.json").write_text(json.dumps({"files": files}))
    server, client = serve()
    eventually(lambda: states(client) == [(1, "END")])
    with pytest.raises(NotFound, match=r"vocabulary\.txt is missing, .* cannot be loaded"):
        ask(server)
    assert "Copy or publish the version again" in caplog.text
    (base / "1" / "manifest.json").write_text(json.dumps({"files": {"saved_model.pb": entry}}))
    eventually(lambda: states(client) == [(1, "AVAILABLE")])


def test_a_request_during_a_swap_finds_the_new_version(push, base):
    """The new version becomes available, and the old one leaves, between two looks at them."""
    push("half_plus_two", base, 1)
    manager = ModelManager(ModelConfig("m", base), Runtime, quick())
    manager.poll()
    old = manager._versions[1]

    class Arriving:
        state, asked = State.LOADING, 0

        def acquire(self):
            self.asked += 1
            if self.asked > 1:
                return "version 2"
            self.state = State.AVAILABLE
            old.retire()
            return None

        def release(self):
            pass

    manager._versions = {1: old, 2: Arriving()}
    with manager.acquire(None) as found:
        assert found == "version 2"
    manager._versions = {}
    manager.stop(5)


def test_swaps_under_load_fail_no_request(serve, push, base, eventually):
    """Every answer must be correct for the version that it names."""
    swaps, clients = 4, 6
    push("half_plus_two", base, 1)
    server, watcher = serve()
    server.wait_until_available(30)
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
        assert ask(server)[0] == 2
        assert running.result().version == 1
    eventually(lambda: states(client) == [(2, "AVAILABLE"), (1, "END")])


@pytest.mark.parametrize(("damage", "retries"), [("weights", 0), ("checksum", 5)])
def test_at_start_the_newest_undamaged_version_is_served(
    serve, push, base, eventually, damage, retries
):
    push("half_plus_two", base, 1)
    push_damaged(base, 2, damage)
    push_damaged(base, 3, "checksum")
    server, client = serve(max_load_retries=retries)
    assert server.wait_until_available(30) == 1
    assert ask(server) == (1, 3.0)
    failed = "LOADING" if retries else "END"
    assert states(client) == [(3, failed), (2, failed), (1, "AVAILABLE")]
    said = client.status(3)[0].error_message
    assert "is not the version that was published: saved_model.pb has changed" in said
    push("half_plus_three", base, 4)
    eventually(lambda: states(client)[0] == (4, "AVAILABLE"))
    assert ask(server) == (4, 4.0)


@pytest.mark.parametrize("damage", ["graph", "manifest"])
def test_a_bad_new_version_leaves_the_old_one_serving(serve, push, base, eventually, damage):
    push("half_plus_two", base, 1)
    server, client = serve()
    server.wait_until_available(30)
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


def test_a_growing_version_is_not_loaded_before_it_is_complete(
    serve, push, base, models, eventually
):
    """Without a manifest only time tells that the graph file is not complete yet."""
    push("half_plus_two", base, 1)
    server, client = serve()
    server.wait_until_available(30)
    source, target = models / "half_plus_three", base / "2"
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
    eventually(lambda: states(client)[0] == (2, "AVAILABLE"), 60)


def test_a_base_path_that_vanishes_or_empties_changes_nothing(serve, push, base):
    push("half_plus_two", base, 1)
    server, client = serve()
    server.wait_until_available(30)
    base.rename(base.with_name("away"))
    for change in (lambda: None, base.mkdir):
        change()
        for _ in range(4):
            time.sleep(POLL_S)
            assert ask(server) == (1, 3.0)
    assert states(client) == [(1, "AVAILABLE")]


def test_a_failed_load_is_retried_while_others_serve(serve, push, base, eventually):
    push("half_plus_two", base, 1)
    file = base / "1" / "variables" / "variables.index"
    good = file.read_bytes()
    file.write_bytes(b"x" * len(good))
    push("half_plus_two", base, 2)
    policy = ModelConfig("m", base, VersionPolicy("all"))
    server, client = serve(policy, max_load_retries=40, load_retry_seconds=0.5)
    server.wait_until_available(30)
    assert ask(server) == (2, 3.0), "it does not wait for the retry of another version"
    assert states(client) == [(2, "AVAILABLE"), (1, "LOADING")]
    file.write_bytes(good)
    eventually(lambda: states(client) == [(2, "AVAILABLE"), (1, "AVAILABLE")])


def test_a_load_is_given_up_after_the_last_retry(serve, push, base, eventually):
    (base / "1").mkdir()
    (base / "1" / "saved_model.pb").write_bytes(b"no graph")
    server, client = serve(max_load_retries=2, load_retry_seconds=1)

    def refusal() -> str:
        with pytest.raises((NotFound, Unavailable)) as refused:
            ask(server)
        return str(refused.value)

    eventually(lambda: "loading its models (m: version 1 LOADING (" in refusal())
    with pytest.raises(StatusError, match="Version 1 of model m failed to load"):
        server.wait_until_available(30)
    assert "Latest(m): version 1 END (Cannot parse file" in refusal()
    push("half_plus_two", base, 2)
    eventually(lambda: states(client)[:1] == [(2, "AVAILABLE")])


def test_models_are_unavailable_until_every_load_was_attempted(serve, push, base, tmp_path):
    push("half_plus_two", base, 1)
    models = [ModelConfig("m", base), ModelConfig("other", tmp_path / "other")]
    server, _ = serve(*models, rest_api_port=-1)
    rest = Rest(server)
    server.core.models["m"].wait_until_available(30)
    for model in ("other", "intentionally_missing_model"):
        with pytest.raises(Unavailable, match=r"still loading its models \(other\)"):
            ask(server, model)
        for answer in (rest.predict({"instances": [2.0]}, model), rest.get(f"/v1/models/{model}")):
            assert answer.status == 503 and "still loading its models (other)" in answer.error()
    assert rest.get("/v1/health/ready").status == 503
    assert ask(server) == (1, 3.0), "what is loaded answers at once"
    push("half_plus_three", tmp_path / "other", 1)
    server.wait_until_available(30)
    assert rest.get("/v1/health/ready").status == 200
    with pytest.raises(NotFound, match=r"Servable not found for request: Latest\(nope\)"):
        ask(server, "nope")


def test_several_models_are_served_with_their_version_policies(serve, bases):
    base = bases / "base"
    server, _ = serve(
        ModelConfig("two", base, VersionPolicy(num_versions=2)),
        ModelConfig("all", base, VersionPolicy("all")),
        ModelConfig("one", base, VersionPolicy("specific", versions=(1, 9))),
        ModelConfig("other", bases / "other"),
    )
    server.wait_until_available(60)
    assert ask(server, "other") == (1, 4.0) and ask(server, "one") == (1, 3.0)
    assert ask(server, "two") == (3, 3.0) and ask(server, "two", version=2) == (2, 3.0)
    with Client(server.target, "all") as client:
        assert [version for version, _ in states(client)] == [3, 2, 1]
    with pytest.raises(NotFound, match=r"Specific\(two, 1\)"):
        ask(server, "two", version=1)


def reload(client, *models):
    """Reload models, each of which is (name, base path[, versions[, labels]])."""
    text = ""
    for name, path, *rest in models:
        versions, labels = (*rest, *((), {})[len(rest) :])
        text += f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow"'
        if versions:
            text += f" model_version_policy {{ specific {{ versions: {list(versions)} }} }}"
        text += "".join(
            f' version_labels {{ key: "{label}" value: {number} }}'
            for label, number in labels.items()
        )
        text += " }\n"
    client.reload(f"model_config_list {{ {text} }}", 60)


@pytest.fixture
def reloading(serve, bases):
    """Return a server that allows reloads, with version 3 of `m`, its client and the folder."""
    server, client = serve(enable_reload_config_rpc=True)
    server.wait_until_available(60)
    return server, client, bases


def test_reload_swaps_models_and_blocks_until_they_answer(reloading, eventually):
    server, client, bases = reloading
    reload(client, ("other", bases / "other"))
    assert ask(server, "other") == (1, 4.0), "available at once"
    with pytest.raises(NotFound, match=r"Latest\(m\)"):
        ask(server)
    reload(client, ("other", bases / "other"), ("m", bases / "base", [1]))
    assert ask(server) == (1, 3.0) and ask(server, "other") == (1, 4.0)
    reload(client, ("m", bases / "base", [2]))
    assert ask(server) == (2, 3.0)
    eventually(lambda: states(client) == [(2, "AVAILABLE"), (1, "END")])


def test_refused_reloads_change_nothing(reloading):
    server, client, bases = reloading
    m = ("m", bases / "base")
    for models, error, words in (
        ([m, m], InvalidArgument, "Illegal to list model m multiple times"),
        ([("m", "base")], InvalidArgument, "to have an absolute path"),
        ([(*m, [3], {"stable": 7})], FailedPrecondition, "Request to assign label to version 7"),
    ):
        with pytest.raises(error, match=words):
            reload(client, *models)
        assert ask(server) == (3, 3.0)
    for text, words in (("", "needs a model_config_list"), ("config {", "not the text of a Model")):
        with pytest.raises(InvalidArgument, match=words):
            client.reload(text)


def test_reload_names_the_models_that_fail(reloading):
    server, client, bases = reloading
    (bases / "bad" / "1").mkdir(parents=True)
    (bases / "bad" / "1" / "saved_model.pb").write_bytes(b"no graph")
    (bases / "empty").mkdir()
    m = ("m", bases / "base")
    for name, words in (
        ("bad", "INVALID_ARGUMENT"),
        ("nope", "nope cannot be read .No such file"),
        ("empty", "no complete version"),
    ):
        with pytest.raises(ServingError, match=rf"1 model.s. did not become available: {name}: "):
            reload(client, (name, bases / name), m)
        with pytest.raises(ServingError, match=words):
            reload(client, (name, bases / name), ("new", bases / name), m)
    assert ask(server) == (3, 3.0)


def test_labels_select_versions_and_follow_reloads(reloading):
    server, client, bases = reloading
    m = ("m", bases / "base", [1, 2])
    reload(client, m)
    reload(client, (*m, {"stable": 1, "canary": 2}))
    assert ask(server, label="stable") == (1, 3.0) and ask(server, label="canary") == (2, 3.0)
    with Client(server.target, "m", label="stable") as stable:
        assert stable.ready() and stable.wait_until_available() == 1
    reload(client, (*m, {"stable": 2}))
    assert ask(server, label="stable") == (2, 3.0)
    with pytest.raises(InvalidArgument, match="Unrecognized servable version label: canary"):
        ask(server, label="canary")


def test_labels_of_unavailable_versions_at_start_need_the_flag(serve, bases):
    config = ModelConfig("m", bases / "base", labels={"stable": 3})
    with pytest.raises(ConfigError, match="not currently available for inference"):
        serve(config)
    server, _ = serve(config, allow_version_labels_for_unavailable_models=True)
    server.wait_until_available(60)
    assert ask(server, label="stable") == (3, 3.0)


def test_a_request_for_a_version_that_is_not_loaded_says_what_answers_and_why(serve, bases):
    config = ModelConfig("m", bases / "base", labels={"old": 1, "next": 9})
    server, _ = serve(config, allow_version_labels_for_unavailable_models=True)
    server.wait_until_available(60)
    for label, number in (("old", 1), ("next", 9)):
        words = (
            rf"Specific\(m, {number}\), for the label {label}\. Versions of m that answer: 3\. "
            rf"Version {number} answers once it is in the folder of the model and "
            r"model_version_policy selects it\. version_labels in --model_config_file can name"
        )
        with pytest.raises(NotFound, match=words):
            ask(server, label=label)
    with pytest.raises(NotFound, match=r"Specific\(m, 9\)\. .* answer: 3\. Version 9 answers once"):
        ask(server, version=9)
    with pytest.raises(NotFound, match=r"Latest\(nope\)\. Models of this server: m\."):
        ask(server, "nope")


def test_changes_of_the_config_file_apply_unless_it_is_invalid(bases, eventually):
    file = bases / "models.config"

    def write(name: str) -> None:
        file.write_text(
            f'model_config_list {{ config {{ name: "{name}" base_path: "{bases / name}" '
            'model_platform: "tensorflow" } }'
        )

    write("base")
    settings = quick(model_config_file=str(file), model_config_file_poll_wait_seconds=POLL_S)
    with ModelServer(settings=settings) as server:
        server.wait_until_available(60)
        for invalid in ("model_config_list { nonsense", ""):  # an editor may empty the file first
            file.write_text(invalid)
            time.sleep(3 * POLL_S)
            assert ask(server, "base") == (3, 3.0)
        write("other")
        eventually(lambda: "other" in server.core.models)
        server.wait_until_available(60)
        assert ask(server, "other") == (1, 4.0)
        with pytest.raises(NotFound, match="base"):
            ask(server, "base")


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


def test_stop_aborts_requests_that_still_run_after_the_grace_period(serve, push, base):
    push("half_plus_two", base, 1)
    server, client = serve()
    server.wait_until_available(30)
    with ThreadPoolExecutor(1) as pool:
        client.predict({"seconds": np.float32(0)}, "slow")
        running = pool.submit(client.predict, {"seconds": np.float32(3)}, "slow")
        time.sleep(0.2)
        assert server.stop(0.1) is False
        with pytest.raises(ServingError, match=r"Cancelling all calls|No model server"):
            running.result()
