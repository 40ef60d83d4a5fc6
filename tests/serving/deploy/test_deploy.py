"""Generated deployment files are checked against their schemas.

These are the models of the Kubernetes client, the official protos, and the documentation of KServe.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format

from imgpipe.serving.deploy import TARGETS, DeployError, Deployment

WANTED = Deployment("imgpipe", Path("/data/out/model"), cpus=3, memory_gib=5, fewest=1, most=4)
COMPOSE, KUBERNETES = "docker-compose.yaml", "kubernetes.yaml"


def documents(text: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML text."""
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize("target", TARGETS)
def test_the_files_have_comments_and_short_lines(target):
    for name, text in TARGETS[target](WANTED).items():
        assert text.endswith("\n")
        assert max(map(len, text.splitlines())) < 190, name
        if name.endswith(".yaml"):
            assert text.count("# ") >= 4
            assert all(document for document in documents(text))


@pytest.mark.parametrize("target", TARGETS)
def test_odd_names_are_quoted(target):
    odd = Deployment("no", Path("/a b/# c: 'd'"), image="1", claim="x: y")
    shown = {text for name, text in TARGETS[target](odd).items() if name.endswith(".yaml")}
    (text,) = shown
    values = json.dumps(documents(text))
    assert '"no"' in values
    for value in {"compose": (str(odd.base_path), "1"), "kubernetes": ("x: y", "1")}.get(
        target, ()
    ):
        assert json.dumps(value) in values


def test_compose_does_not_substitute_a_dollar_in_a_path():
    odd = Deployment("a$b", Path("/data/cost$2024/out"), image="registry/$a:1")
    (service,) = documents(TARGETS["compose"](odd)[COMPOSE])[0]["services"].values()
    assert service["image"] == "registry/$$a:1"
    assert service["volumes"][0]["source"] == "/data/cost$$2024/out"
    assert service["volumes"][0]["target"] == "/models/a$$b"


# --- the server's own files ----------------------------------------------------------------------
def test_models_config_is_a_model_server_config():
    from tensorflow_serving.config import model_server_config_pb2

    odd = Deployment('my "model" ü', Path("/x"))
    for wanted in (WANTED, odd):
        text = TARGETS["compose"](wanted)["models.config"]
        read = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
        (one,) = read.model_config_list.config
        assert (one.name, one.model_platform) == (wanted.model, "tensorflow")
        assert one.base_path == f"/models/{wanted.model}"
        assert one.model_version_policy.latest.num_versions == 1
        commented = text.replace("# version_labels", "version_labels")
        more = text_format.Parse(commented, model_server_config_pb2.ModelServerConfig())
        assert dict(more.model_config_list.config[0].version_labels) == {"stable": 1, "canary": 2}


def test_the_embedded_server_reads_the_same_files(tmp_path):
    """The server's own parsers read the files.

    Batching and monitoring have no official Python messages to parse them with.
    """
    from imgpipe.serving.server import textproto

    for name, text in TARGETS["compose"](WANTED).items():
        (tmp_path / name).write_text(text)
    batching = textproto.read_batching(tmp_path / "batching.config")
    assert batching.max_batch_size == batching.allowed_batch_sizes[-1] == 32
    assert not batching.enable_large_batch_splitting, "it would not split a larger request"
    assert batching.num_batch_threads == 3
    monitoring = textproto.read_monitoring(tmp_path / "monitoring.config")
    assert monitoring == textproto.Monitoring(prometheus=True)


# --- Compose -------------------------------------------------------------------------------------
def test_compose_mounts_the_paths_that_the_configs_name():
    (service,) = documents(TARGETS["compose"](WANTED)[COMPOSE])[0]["services"].values()
    binds = {volume["target"]: volume for volume in service["volumes"]}
    assert binds["/models/imgpipe"]["source"] == "/data/out/model"
    assert all(volume["read_only"] for volume in binds.values())
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in service["command"])
    for name in ("model_config_file", "batching_parameters_file", "monitoring_config_file"):
        assert Path(flags[name]).parent.as_posix() in binds
        assert Path(flags[name]).name in TARGETS["compose"](WANTED)
    assert flags["tensorflow_intra_op_parallelism"] == "3"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert ":" in service["image"] and not service["image"].endswith(":latest")
    assert service["deploy"]["resources"]["limits"] == {"cpus": "3", "memory": "5G"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("model", "body", "healthy"),
    [
        ("imgpipe", '{ "state": "AVAILABLE" }', True),
        ("imgpipe", '{"state": "END"}', False),
        *((name, '{"state": "AVAILABLE"}', True) for name in ("my model", "it's", "50%off", "a$b")),
    ],
)
def test_the_health_check_of_compose_asks_the_status(model, body, healthy):
    import http.server
    import threading
    from urllib.parse import unquote

    asked = []

    class Status(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Status)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        text = TARGETS["compose"](Deployment(model, Path("/x")))[COMPOSE]
        (service,) = documents(text)[0]["services"].values()
        _, *command = service["healthcheck"]["test"]
        assert "$" not in command[-1], "Compose would substitute it"
        command[-1] = command[-1].replace("8501", str(server.server_port))
        done = subprocess.run(command, timeout=60, check=False)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (done.returncode == 0) == healthy
    assert [unquote(path) for path in asked] == [f"/v1/models/{model}"]


# --- Kubernetes ----------------------------------------------------------------------------------
KINDS = {
    "ConfigMap": "V1ConfigMap",
    "Deployment": "V1Deployment",
    "Service": "V1Service",
    "HorizontalPodAutoscaler": "V2HorizontalPodAutoscaler",
}


def as_model(document: dict[str, Any]) -> Any:
    """Return a document as an object of the Kubernetes client.

    Unknown keys are found by comparing the serialized object with the document.
    """
    from kubernetes import client

    api = client.ApiClient()

    class Response:
        data = json.dumps(document)

    model = api.deserialize(Response(), KINDS[document["kind"]])
    assert api.sanitize_for_serialization(model) == document, "a key that the schema does not have"
    return model


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """Return the generated Kubernetes objects by their kind."""
    text = TARGETS["kubernetes"](WANTED)[KUBERNETES]
    return {document["kind"]: as_model(document) for document in documents(text)}


def test_kubernetes_objects_fit_the_official_models(objects):
    assert list(objects) == list(KINDS)
    assert objects["HorizontalPodAutoscaler"].api_version == "autoscaling/v2"


def test_an_unknown_key_is_detected_by_the_official_models():
    (_, deployment, *_) = documents(TARGETS["kubernetes"](WANTED)[KUBERNETES])
    deployment["spec"]["template"]["spec"]["terminationGrace"] = 1
    with pytest.raises(AssertionError, match="does not have"):
        as_model(deployment)


def test_kubernetes_names_labels_and_ports_refer_to_each_other(objects):
    deployment, service = objects["Deployment"], objects["Service"]
    labels = deployment.spec.template.metadata.labels
    assert deployment.spec.selector.match_labels.items() <= labels.items()
    assert service.spec.selector.items() <= labels.items()
    scaled = objects["HorizontalPodAutoscaler"].spec
    assert scaled.scale_target_ref.name == deployment.metadata.name
    assert (scaled.min_replicas, scaled.max_replicas) == (1, 4)
    (container,) = deployment.spec.template.spec.containers
    ports = {port.name: port.container_port for port in container.ports}
    assert ports == {"grpc": 8500, "http": 8501}
    assert {port.target_port for port in service.spec.ports} == set(ports)
    volumes = {volume.name for volume in deployment.spec.template.spec.volumes}
    assert {mount.name for mount in container.volume_mounts} == volumes


def test_kubernetes_waits_for_the_model_and_drains(objects):
    pod = objects["Deployment"].spec.template.spec
    (container,) = pod.containers
    for probe in (container.startup_probe, container.readiness_probe):
        assert (probe.http_get.path, probe.http_get.port) == ("/v1/models/imgpipe", "http")
    sleep = container.lifecycle.pre_stop._exec.command
    assert sleep[0] == "sleep" and int(sleep[1]) >= 10
    assert pod.termination_grace_period_seconds > int(sleep[1])
    assert container.resources.requests == {"cpu": "3", "memory": "5Gi"}


def test_the_config_map_holds_the_files(objects):
    files = TARGETS["kubernetes"](WANTED)
    data = objects["ConfigMap"].data
    assert data == {name: text for name, text in files.items() if name != KUBERNETES}
    (container,) = objects["Deployment"].spec.template.spec.containers
    for name in data:
        assert any(flag.endswith(f"/config/{name}") for flag in container.args)


# --- KServe --------------------------------------------------------------------------------------
def test_kserve_has_the_documented_fields():
    (document,) = documents(TARGETS["kserve"](WANTED)["inference-service.yaml"])
    assert document["apiVersion"] == "serving.kserve.io/v1beta1"
    assert document["kind"] == "InferenceService"
    predictor = document["spec"]["predictor"]
    assert set(predictor) == {
        "minReplicas",
        "maxReplicas",
        "scaleMetric",
        "scaleTarget",
        "timeout",
        "model",
    }
    assert predictor["scaleMetric"] in ("cpu", "memory", "concurrency", "rps")
    model = predictor["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["storageUri"] == "pvc://imgpipe-models/imgpipe"
    assert model["protocolVersion"] == "grpc-v1"
    container = {key: model[key] for key in ("args", "ports", "resources")}
    from kubernetes import client

    class Response:
        data = json.dumps({"name": "kserve-container", **container})

    api = client.ApiClient()
    read = api.sanitize_for_serialization(api.deserialize(Response(), "V1Container"))
    assert read == {"name": "kserve-container", **container}


# --- settings ------------------------------------------------------------------------------------
def test_model_names_become_valid_kubernetes_names_or_are_refused():
    assert Deployment("My_Model.v2", Path("/x")).name == "my-model-v2"
    assert Deployment("2024 photos", Path("/x")).name == "m-2024-photos"
    for name in ("ü", "x" * 64):
        with pytest.raises(DeployError, match="lowercase letters, digits and dashes"):
            TARGETS["kubernetes"](Deployment(name, Path("/x")))


@pytest.mark.parametrize("bad", [{"cpus": 0}, {"memory_gib": 0}, {"fewest": 3, "most": 2}])
def test_invalid_sizes_are_refused(bad):
    with pytest.raises(DeployError, match="1 or more"):
        Deployment("m", Path("/x"), **bad)
