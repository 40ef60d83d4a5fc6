"""The list of models and the configuration, read by REST and by gRPC."""

from __future__ import annotations

import http.client
import json

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from tensorflow_serving.config import model_server_config_pb2

from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.core import CoreOptions
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.versions import config as configs
from imgpipe.serving.server.versions.config import ModelConfig, RequestLogConfig
from imgpipe.serving.server.versions.version_policy import VersionPolicy


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """Return the configurations of three models: ``pinned``, ``later`` and ``logged``."""
    base = tmp_path_factory.mktemp("listed")
    (base / "later").mkdir()
    return [
        ModelConfig("pinned", base / "pinned", VersionPolicy("specific", versions=(3,)), {"a": 3}),
        ModelConfig("later", base / "later", VersionPolicy("all")),
        ModelConfig("logged", base / "later", request_log=RequestLogConfig("/logs/r", 0.5)),
    ]


@pytest.fixture(scope="module")
def server(models, wanted):
    """Serve the wanted models; only ``pinned`` has a version."""
    import shutil

    shutil.copytree(models / "half_plus_two", wanted[0].base_path / "3")
    options = ServerOptions(core=CoreOptions(labels_for_unavailable=True), rest=RestOptions(0))
    with ModelServer(models=wanted, options=options) as server:
        server.core.models["pinned"].wait_until_available(60)
        yield server


def get(server: ModelServer, path: str):
    """Return the JSON of a REST answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.getheader("content-type").startswith("application/json")
        return json.loads(answer.read())
    finally:
        connection.close()


def call(server: ModelServer, method: str) -> bytes:
    """Call a method of ServerService with an empty request and return the reply's bytes."""
    with grpc.insecure_channel(server.target) as channel:
        return channel.unary_unary(f"/imgpipe.serving.ServerService/{method}")(b"", timeout=20)


def test_the_list_of_models_is_the_same_over_rest_and_grpc(server):
    found = get(server, "/v1/server/models")
    assert [model["name"] for model in found["models"]] == ["later", "logged", "pinned"]
    ready = {"error_code": "OK", "error_message": ""}
    assert found["models"][2] == {
        "name": "pinned",
        "version_labels": {"a": "3"},
        "model_version_status": [{"version": "3", "state": "AVAILABLE", "status": ready}],
    }
    assert found["models"][0]["model_version_status"] == []
    struct = struct_pb2.Struct.FromString(call(server, "ListModels"))
    assert json_format.MessageToDict(struct) == found


def test_the_configuration_is_the_same_over_rest_and_grpc(server, wanted):
    message = model_server_config_pb2.ModelServerConfig.FromString(call(server, "GetConfig"))
    assert configs.from_proto(message) == wanted
    found = get(server, "/v1/server/config")
    assert json_format.ParseDict(found, type(message)()) == message
