"""Several models, version policies and labels, and reloads while the server answers."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import grpc
import pytest
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from imgpipe.models.errors import ConfigError
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.versions.config import ModelConfig, VersionPolicy
from tests.serving.quick import POLL_S, quick

Code = grpc.StatusCode


class Asked:
    """A server with the official stubs for it."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server.target)
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def __call__(self, model="two", version=None, label=None) -> tuple[int, float]:
        """Return the version and the output for x = 2."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        if label is not None:
            request.model_spec.version_label = label
        request.inputs["x"].dtype = 1
        request.inputs["x"].float_val.append(2)
        request.inputs["x"].tensor_shape.dim.add().size = 1
        reply = self._predict.Predict(request, timeout=20)
        return reply.model_spec.version.value, reply.outputs["y"].float_val[0]

    def states(self, model="two") -> list[tuple[int, int]]:
        """Return version and state of each version of a model.

        The list is empty while the server answers UNAVAILABLE, until the first load is over.
        """
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            reply = self.models.GetModelStatus(request, timeout=20)
        except grpc.RpcError as error:
            if error.code() is Code.UNAVAILABLE:
                return []
            raise
        return [(line.version, line.state) for line in reply.model_version_status]

    def reload(self, *models: tuple, timeout=60):
        """Send a reload; each model is (name, base path[, versions[, labels]])."""
        request = model_management_pb2.ReloadConfigRequest()
        for name, path, *rest in models:
            config = request.config.model_config_list.config.add()
            config.name, config.base_path, config.model_platform = name, str(path), "tensorflow"
            for versions in rest[:1]:
                config.model_version_policy.specific.versions.extend(versions)
            for labels in rest[1:]:
                config.version_labels.update(labels)
        return self.models.HandleReloadConfigRequest(request, timeout=timeout)


def refusal(call) -> tuple[Code, str]:
    """Return code and message of the RpcError that a call raises."""
    with pytest.raises(grpc.RpcError) as error:  # noqa: PT011 - the caller checks the message
        call()
    return error.value.code(), error.value.details()


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts a server of ``models`` with reloading allowed."""
    asked = []

    def start(models, **changes) -> Asked:
        settings = quick(enable_reload_config_rpc=True, **changes)
        server = ModelServer(models=models, settings=settings)
        server.start()
        asked.append(Asked(server))
        return asked[-1]

    yield start
    for one in asked:
        one.channel.close()
        one.server.stop(5)


@pytest.fixture
def bases(push, tmp_path):
    """Return a folder with two base paths.

    ``two`` has the versions 1 to 3, ``three`` has version 1.
    """
    for version in (1, 2, 3):
        push("half_plus_two", tmp_path / "two", version)
    push("half_plus_three", tmp_path / "three", 1)
    return tmp_path


def test_several_models_are_served_with_their_version_policies(serve, bases):
    two = bases / "two"
    asked = serve(
        [
            ModelConfig("two", two, VersionPolicy(num_versions=2)),
            ModelConfig("all", two, VersionPolicy("all")),
            ModelConfig("one", two, VersionPolicy("specific", versions=(1, 9))),
            ModelConfig("three", bases / "three"),
        ]
    )
    asked.server.wait_until_available(60)
    assert asked("three") == (1, 4.0)
    assert asked("one") == (1, 3.0)
    assert asked("two") == (3, 3.0) and asked("two", 2) == (2, 3.0)
    assert [version for version, _ in asked.states("all")] == [3, 2, 1]
    assert refusal(lambda: asked("two", 1))[1] == (
        "Servable not found for request: Specific(two, 1)"
    )


def test_a_poll_wait_without_end_does_not_end_the_reloads(bases, eventually):
    two = ModelConfig("two", bases / "two")
    with ModelServer(
        models=[two], settings=quick(file_system_poll_wait_seconds=math.inf)
    ) as server:
        assert server.wait_until_available() == 3
        server.core.reload([replace(two, policy=VersionPolicy("specific"))])
        eventually(lambda: not server.core.models["two"].available(), 20)


def test_reload_swaps_models_and_blocks_until_they_answer(serve, bases, eventually):
    asked = serve([ModelConfig("two", bases / "two")])
    asked.server.wait_until_available(60)
    reply = asked.reload(("three", bases / "three"))
    assert reply.status.error_code == 0
    assert asked("three") == (1, 4.0)  # available at once, because the reload has waited for it
    code, message = refusal(lambda: asked("two"))
    assert code is Code.NOT_FOUND and "Latest(two)" in message
    asked.reload(("three", bases / "three"), ("two", bases / "two", [1]))
    assert asked("two") == (1, 3.0) and asked("three") == (1, 4.0)
    asked.reload(("two", bases / "two", [2]))
    assert asked("two") == (2, 3.0)
    eventually(lambda: asked.states() == [(2, 30), (1, 50)])


def test_refused_reloads_change_nothing(serve, bases):
    asked = serve([ModelConfig("two", bases / "two")])
    asked.server.wait_until_available(60)
    two = ("two", bases / "two")
    for models, code, words in (
        ([two, two], Code.INVALID_ARGUMENT, "Illegal to list model two multiple times"),
        ([("two", "two")], Code.INVALID_ARGUMENT, "to have an absolute path"),
        (
            [(*two, [3], {"stable": 7})],
            Code.FAILED_PRECONDITION,
            "Request to assign label to version 7 of model two, which is not currently available "
            "for inference",
        ),
    ):
        found, message = refusal(lambda models=models: asked.reload(*models))
        assert found is code and words in message
        assert asked("two") == (3, 3.0)
    empty = model_management_pb2.ReloadConfigRequest()
    found, message = refusal(lambda: asked.models.HandleReloadConfigRequest(empty, timeout=20))
    assert found is Code.INVALID_ARGUMENT
    assert "needs a model_config_list" in message


def test_reload_names_a_model_that_fails_to_load(serve, bases):
    (bases / "bad" / "1").mkdir(parents=True)
    (bases / "bad" / "1" / "saved_model.pb").write_bytes(b"no graph")
    asked = serve([ModelConfig("two", bases / "two")])
    asked.server.wait_until_available(60)
    code, message = refusal(lambda: asked.reload(("bad", bases / "bad"), ("two", bases / "two")))
    assert code is Code.UNKNOWN
    assert "1 model(s) did not become available: bad: " in message
    assert asked("two") == (3, 3.0)
    good = ("two", bases / "two"), ("three", bases / "three")
    asked.reload(("bad", bases / "bad"), *good)
    assert asked("three") == (1, 4.0), "only the new model was waited for"


def test_labels_select_versions_and_follow_reloads(serve, bases):
    two = bases / "two"
    asked = serve([ModelConfig("two", two, VersionPolicy("specific", versions=(1, 2)))])
    asked.server.wait_until_available(60)
    asked.reload(("two", two, [1, 2], {"stable": 1, "canary": 2}))
    assert asked(label="stable") == (1, 3.0) and asked(label="canary") == (2, 3.0)
    asked.reload(("two", two, [1, 2], {"stable": 2}))
    assert asked(label="stable") == (2, 3.0)
    code, message = refusal(lambda: asked(label="canary"))
    assert code is Code.INVALID_ARGUMENT
    assert message == "Unrecognized servable version label: canary"


def test_labels_of_unavailable_versions_at_start_need_the_flag(serve, bases):
    config = ModelConfig("two", bases / "two", labels={"stable": 3})
    with pytest.raises(ConfigError, match="not currently available for inference"):
        serve([config])
    asked = serve([config], allow_version_labels_for_unavailable_models=True)
    asked.server.wait_until_available(60)
    assert asked(label="stable") == (3, 3.0)
    # This holds for new labels only: one in use cannot move to a version that is not loaded.
    code, _ = refusal(lambda: asked.reload(("two", bases / "two", [3], {"stable": 1})))
    assert code is Code.FAILED_PRECONDITION


def test_a_failed_load_is_retried(serve, push, models, tmp_path, eventually):
    push("half_plus_two", tmp_path / "two", 1)
    file = tmp_path / "two" / "1" / "variables" / "variables.index"
    good = file.read_bytes()
    file.write_bytes(b"x" * len(good))
    asked = serve(
        [ModelConfig("two", tmp_path / "two")], max_load_retries=3, load_retry_seconds=0.2
    )
    eventually(lambda: asked.states() == [(1, 20)])
    file.write_bytes(good)
    asked.server.wait_until_available(30)
    assert asked() == (1, 3.0)


def test_a_load_is_given_up_after_the_last_retry(serve, push, tmp_path, eventually):
    bad = tmp_path / "two" / "1"
    bad.mkdir(parents=True)
    (bad / "saved_model.pb").write_bytes(b"no graph")
    asked = serve(
        [ModelConfig("two", tmp_path / "two")], max_load_retries=2, load_retry_seconds=0.1
    )
    eventually(lambda: asked.states() == [(1, 50)])
    push("half_plus_two", tmp_path / "two", 2)
    eventually(lambda: asked.states()[:1] == [(2, 30)])
    assert asked() == (2, 3.0)


def test_another_version_does_not_wait_for_a_retry(serve, push, tmp_path):
    push("half_plus_two", tmp_path / "two", 1)
    bad = tmp_path / "two" / "2"
    bad.mkdir()
    (bad / "saved_model.pb").write_bytes(b"no graph")
    config = ModelConfig("two", tmp_path / "two", VersionPolicy("all"))
    asked = serve([config], max_load_retries=5, load_retry_seconds=600.0)
    asked.server.wait_until_available(30)
    assert asked() == (1, 3.0)
    time.sleep(3 * POLL_S)  # the next polls must not end the retries, though the files are new
    assert asked.states() == [(2, 20), (1, 30)]


def test_changes_of_the_config_file_apply_unless_it_is_invalid(serve, bases, eventually):
    file = bases / "models.config"

    def write(name: str) -> None:
        file.write_text(
            f'model_config_list {{ config {{ name: "{name}" base_path: "{bases / name}" '
            'model_platform: "tensorflow" } }'
        )

    write("two")
    asked = serve([], model_config_file=str(file), model_config_file_poll_wait_seconds=POLL_S)
    asked.server.wait_until_available(60)
    for invalid in ("model_config_list { nonsense", ""):  # an editor may empty the file first
        file.write_text(invalid)
        time.sleep(3 * POLL_S)
        refusal(lambda: asked("three"))
        assert asked("two") == (3, 3.0)
    write("three")
    eventually(lambda: "three" in asked.server.core.models)
    asked.server.wait_until_available(60)
    assert asked("three") == (1, 4.0)
    assert refusal(lambda: asked("two"))[0] is Code.NOT_FOUND


def test_a_reload_with_a_missing_or_empty_base_path_fails_at_once(serve, bases):
    asked = serve([ModelConfig("two", bases / "two")])
    asked.server.wait_until_available(60)
    (bases / "empty").mkdir()
    began = time.monotonic()
    for name, words in (("nope", "nope cannot be read (No such file"), ("empty", "no complete")):
        code, message = refusal(lambda name=name: asked.reload((name, bases / name), timeout=200))
        assert code is Code.UNKNOWN and words in message
        assert message.startswith("1 model(s) did not become available: " + name)
    assert time.monotonic() - began < 100, "it does not wait for the deadline"
