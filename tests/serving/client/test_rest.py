"""The REST client against a real server: the same requests as JSON, the same errors.

``test_rest_hostile`` has the answers that only a broken server gives.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from imgpipe.serving.client import (
    Client,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Retry,
    ServingError,
    Tls,
    Unavailable,
    Unimplemented,
)
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.core import CoreOptions
from imgpipe.serving.server.requests.calls import Call
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.textproto import SslConfig
from imgpipe.serving.server.versions.config import ModelConfig
from imgpipe.serving.server.versions.version_policy import VersionPolicy

POLL_S = 0.05
BYTES = b"\xff\x00"


def write_model(directory) -> None:
    """Write a model with y = x / 2 + 2 and signatures for every kind of value and method."""
    import tensorflow as tf

    module = tf.Module()
    numbers = tf.TensorSpec([None], tf.float32, name="x")
    strings = tf.TensorSpec([None], tf.string, name="x")
    examples = tf.TensorSpec([None], tf.string, name="inputs")

    def many(x):
        count = tf.size(x)
        return {
            "classes": tf.tile([["a", "ü"]], [count, 1]),
            "probabilities": tf.tile([[0.25, 0.75]], [count, 1]),
            "raw_bytes": x,
            "count": tf.cast(count, tf.int64),
        }

    def features(inputs):
        spec = {
            "x": tf.io.FixedLenFeature([2], tf.float32),
            "b": tf.io.FixedLenFeature([], tf.string, ""),
            "n": tf.io.FixedLenFeature([], tf.int64, 0),
            "c": tf.io.FixedLenFeature([], tf.string, ""),
        }
        return tf.io.parse_example(inputs, spec)

    def classify(inputs):
        found = features(inputs)
        names = tf.stack([found["b"], found["c"]], axis=1)
        return {"classes": names, "scores": found["x"] * tf.cast(found["n"], tf.float32)[:, None]}

    bodies = {
        "serving_default": (lambda x: {"y": x * 0.5 + 2.0}, numbers),
        "many": (many, strings),
        "classify": (classify, examples),
        "regress": (lambda inputs: {"outputs": features(inputs)["x"][:, 0]}, examples),
    }
    functions = {key: tf.function(f, input_signature=[spec]) for key, (f, spec) in bodies.items()}
    tf.saved_model.save(module, str(directory), signatures=functions)


@dataclass(frozen=True)
class Live:
    """A running server, its base directory, and the calls that reached its models."""

    server: ModelServer
    base: Any
    calls: list[Call] = field(default_factory=list)

    @property
    def target(self) -> str:
        return self.server.rest_target


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the path of the model that ``write_model`` wrote."""
    path = tmp_path_factory.mktemp("rest-client") / "model"
    write_model(path)
    return path


def run(saved, base, *models: ModelConfig, port: int = 0, **options: Any) -> ModelServer:
    """Return a server, not yet started, of version 123 of ``half`` and of further models."""
    shutil.copytree(saved, base / "half" / "123")
    core = CoreOptions(poll_seconds=POLL_S)
    return ModelServer(
        models=[ModelConfig("half", base / "half"), *models],
        options=ServerOptions(core=core, rest=RestOptions(port), **options),
    )


@pytest.fixture(scope="module")
def live(saved, tmp_path_factory) -> Iterator[Live]:
    """Serve ``half`` and also versions 5 and 123 of ``a/b``, each with a label."""
    base = tmp_path_factory.mktemp("live")
    for version in (5, 123):
        shutil.copytree(saved, base / "slash" / str(version))
    slash = ModelConfig("a/b", base / "slash", VersionPolicy("all"))
    with run(saved, base, slash) as server:
        server.wait_until_available(60)
        labels = {"old": 5, "very stable": 123}
        labelled = ModelConfig("a/b", base / "slash", VersionPolicy("all"), labels)
        server.core.reload([ModelConfig("half", base / "half"), labelled], wait=30)
        made = Live(server, base)
        server.calls.observers.append(made.calls.append)
        yield made


HALF = {"model": "half"}


def test_predict_names_the_version_that_answered(ask, live):
    answer = ask(live.target, "predict", {"x": np.float32([2, 3, 4])}, client=HALF)
    assert answer.outputs["y"].dtype == np.float32
    assert answer.outputs["y"].tolist() == [3.0, 3.5, 4.0]
    assert (answer.model, answer.version, answer.signature_name) == (
        "half",
        123,
        "serving_default",
    )
    call = live.calls[-1]
    assert (call.method, call.entrypoint, call.model, call.version, call.rows) == (
        "Predict",
        "REST",
        "half",
        123,
        3,
    )


def test_bytes_are_sent_as_base64_and_outputs_keep_their_types(ask, live):
    inputs = {"x": [BYTES]}
    answer = ask(live.target, "predict", inputs, "many", client=HALF)
    assert answer.outputs["classes"].tolist() == [[b"a", "ü".encode()]]
    assert answer.outputs["raw_bytes"].tolist() == [BYTES]
    assert answer.outputs["count"].dtype == np.int64 and answer.outputs["count"] == 1
    filtered = ask(live.target, "predict", inputs, "many", ["count"], client=HALF)
    assert list(filtered.outputs) == ["count"]
    with pytest.raises(InvalidArgument, match="alias not found in signature: z"):
        ask(live.target, "predict", inputs, "many", ["z"], client=HALF)
    options = {"signature_name": "many", "input_name": "x"}
    (image,) = ask(live.target, "classify", [BYTES], client=HALF, **options)
    assert (image.label, image.probability, image.version) == ("ü", 0.75, 123)


def test_nan_and_infinity(ask, live):
    x = np.float32([np.nan, np.inf, -np.inf])
    y = ask(live.target, "predict", {"x": x}, client=HALF).outputs["y"]
    np.testing.assert_array_equal(y, x)


def test_versions_and_labels_of_a_model_name_that_needs_escaping(ask, live):
    def version(**chosen: Any) -> int:
        client = {"model": "a/b", **chosen}
        return ask(live.target, "predict", {"x": [2.0]}, client=client).version

    assert version() == version(version=123) == version(label="very stable") == 123
    assert version(version=5) == version(label="old") == 5
    lines = ask(live.target, "status", 5, client={"model": "a/b"})
    assert [line.version for line in lines] == [5]
    # The version or label of the client does not restrict the status of the model.
    lines = ask(live.target, "status", client={"model": "a/b", "label": "old"})
    assert [line.version for line in lines] == [123, 5]
    with pytest.raises(InvalidArgument, match="label: older"):
        version(label="older")


def test_metadata_of_a_fixed_version_is_read_once_over_one_connection(live, monkeypatch):
    held, acquire = [], live.server.core.acquire
    monkeypatch.setattr(
        live.server.core, "acquire", lambda spec: held.append(spec) or acquire(spec)
    )
    before = len(live.calls)
    with Client(live.target, "half", version=123) as client:
        for _ in range(5):
            client.predict({"x": [2.0]})
    assert len(held) == 1 + 5  # one request for the metadata, five predictions
    assert len(live.calls) == before + 5
    assert len({call.peer for call in live.calls[before:]}) == 1


def test_a_version_swap_between_metadata_and_prediction_is_not_an_error(
    ask, saved, tmp_path, monkeypatch, eventually
):
    with run(saved, tmp_path) as server:
        server.wait_until_available(60)
        specs, acquire = [], server.core.acquire

        def swapping(spec):
            specs.append(spec)
            if len(specs) == 2:  # after the signatures were read, before the version is held
                shutil.copytree(saved, tmp_path / "half" / "124")
                eventually(lambda: server.core.models["half"].available() == [124])
            return acquire(spec)

        monkeypatch.setattr(server.core, "acquire", swapping)
        assert ask(server.rest_target, "predict", {"x": [2.0]}, client=HALF).version == 124
    assert [spec.version for spec in specs] == [None, 123, None, 124]


def test_the_version_is_requested_once_if_the_server_names_it_in_answers(
    saved, tmp_path, eventually, monkeypatch
):
    with run(saved, tmp_path) as server, Client(server.rest_target, **HALF) as client:
        server.wait_until_available(60)
        held, acquire = [], server.core.acquire
        monkeypatch.setattr(server.core, "acquire", lambda spec: held.append(spec) or acquire(spec))
        for _ in range(3):
            assert client.predict({"x": [2.0]}).version == 123
        # The first request reads the metadata, the second names that version, the others name none.
        assert [spec.version for spec in held] == [None, 123, None, None]
        shutil.copytree(saved, tmp_path / "half" / "124")
        eventually(lambda: server.core.models["half"].available() == [124])
        prediction = client.predict({"x": [2.0]})
        assert (prediction.version, prediction.outputs["y"].tolist()) == (124, [3.0])


def test_status_and_metadata(ask, saved, tmp_path, eventually):
    with run(saved, tmp_path) as server:
        server.wait_until_available(60)
        broken = shutil.copytree(saved, tmp_path / "half" / ".tmp")
        (broken / "saved_model.pb").write_bytes(b"\xff")
        broken.rename(tmp_path / "half" / "124")
        eventually(lambda: next(iter(server.core.states("half"))).state.name == "END")
        target = server.rest_target
        end, available = ask(target, "status", client=HALF)
        assert (end.version, end.state) == (124, "END")
        assert end.error_code and "saved_model.pb" in end.error_message
        assert (available.version, available.state, available.error_code) == (123, "AVAILABLE", 0)
        assert ask(target, "wait_until_available", client=HALF) == 123
        metadata = ask(target, "metadata", client=HALF)
    assert (metadata.model, metadata.version) == ("half", 123)
    assert metadata.signatures["serving_default"].inputs["x"].shape == (None,)
    assert metadata.signatures["serving_default"].inputs["x"].dtype == "float"


def test_classify_and_regress_examples(ask, live):
    examples = [{"x": [1.0, 2.0], "b": BYTES, "n": 3}, {"x": [0.5, 0.25], "n": 2}]
    found = ask(live.target, "classify_examples", examples[1:], "classify", {"c": "d"}, client=HALF)
    assert found.examples == [[("", 1.0), ("d", 0.5)]]
    values = ask(live.target, "regress_examples", examples, "regress", client=HALF).values
    assert values.tolist() == [1.0, 0.5]
    for method, arguments in (
        ("multi_inference", ({"a": "classify"}, examples)),
        ("reload", ("model_config_list {}",)),
    ):
        with pytest.raises(Unimplemented, match="does not exist in the REST interface"):
            ask(live.target, method, *arguments, client=HALF)


def test_errors_of_the_rest_server_have_typed_exceptions(ask, live):
    with pytest.raises(NotFound, match=r"Specific\(half, 9\)"):
        ask(live.target, "predict", {"x": [2.0]}, client={"model": "half", "version": 9})
    with pytest.raises(NotFound, match="of model nope"):
        ask(live.target, "status", client={"model": "nope"})
    with pytest.raises(InvalidArgument, match="x"):
        ask(live.target, "predict", {"x": ["no number"]}, client=HALF)


def test_a_grpc_call_to_a_rest_port_names_the_address_for_rest(ask, live):
    target = live.target.removeprefix("http://")
    with pytest.raises(Unavailable, match=f"This is a REST port; use {live.target}"):
        ask(target, "status", client=HALF | {"retry": Retry(1)})


def test_the_client_connects_again_after_the_server_restarts(saved, tmp_path):
    with run(saved, tmp_path / "first") as server:
        server.wait_until_available(60)
        client = Client(server.rest_target, "half", retry=Retry(attempts=1))
        port = int(server.rest_target.rpartition(":")[2])
        assert client.predict({"x": [2.0]}).version == 123
    with client, run(saved, tmp_path / "second", port=port) as server:
        server.wait_until_available(60)
        assert client.predict({"x": [2.0]}).version == 123


def test_a_slow_model_raises_deadline_exceeded(ask, models, tmp_path):
    shutil.copytree(models / "half_plus_two", tmp_path / "half" / "1")
    options = ServerOptions(rest=RestOptions(0))
    with ModelServer("half", tmp_path / "half", options=options) as server:
        server.wait_until_available(60)
        ask(server.rest_target, "metadata", client=HALF)
        steps = {"seconds": np.float32(1.2)}
        with pytest.raises(DeadlineExceeded, match=r"within 0\.\d+ s"):
            ask(server.rest_target, "predict", steps, "slow", timeout=0.5, client=HALF)


def test_a_missing_server_raises_unavailable(ask):
    with pytest.raises(Unavailable, match=r"No model server is available at http://127.*Start one"):
        ask("http://127.0.0.1:9", "status", client={"timeout": 1.0})


def test_https_and_a_client_certificate(ask, saved, tmp_path, certificates):
    certificate, key = (path.read_text() for path in certificates.server)
    tls = SslConfig(key, certificate, certificates.ca.read_text(), True)
    with run(saved, tmp_path, tls=tls) as server:
        server.wait_until_available(60)
        known = {**HALF, "tls": Tls(certificates.ca, *certificates.client)}
        (line,) = ask(server.rest_target, "status", client=known)
        assert line.version == 123
        stranger = Tls(certificates.stranger, *certificates.client)
        for refused in (Tls(certificates.ca), stranger, None):
            client = {**HALF, "tls": refused, "retry": Retry(1), "timeout": 5.0}
            with pytest.raises(Unavailable, match="No model server is available"):
                ask(server.rest_target, "status", client=client)


def test_calls_of_a_closed_client_are_refused(live):
    client = Client(live.target, "half")
    client.status()
    client.close()
    with pytest.raises(ServingError, match="is closed"):
        client.status()
