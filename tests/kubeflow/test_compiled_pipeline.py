"""Tests that the compiled PipelineSpec is valid and that Kubeflow accepts it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.commands.kubeflow import compile_
from imgpipe.pipeline.kubeflow.groups import GROUPS
from tests.command import ran
from tests.conftest import REPOSITORY
from tests.document_blocks import blocks


def _compiled(
    folder: Path, *settings: str, data: str | None = "photos", root: str = "minio://bucket/root"
) -> Path:
    """Compile a pipeline and return its file; the images need not exist where it is compiled."""
    output = folder / "pipeline.yaml"
    given = [f"kubeflow.volumes=[{{claim = 'photos', path = '{folder}'}}]", *settings]
    compile_(None, data and str(folder / data), output, "image:1", root, given)
    return output


def _spec(file: Path) -> dict[str, Any]:
    """Return the first document of a compiled file, which is a valid PipelineSpec."""
    spec = next(yaml.safe_load_all(file.read_text()))
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    return dict(spec)


def _tasks(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec["root"]["dag"]["tasks"])


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the compiled and parsed pipeline of a folder of images."""
    return _spec(_compiled(tmp_path_factory.mktemp("kubeflow"), "evaluate.cross_validate=5"))


def test_every_task_is_a_plain_container_that_runs_the_entry_point(spec: dict[str, Any]):
    assert spec["schemaVersion"] == "2.1.0"
    assert spec["defaultPipelineRoot"] == "minio://bucket/root"
    executors = spec["deploymentSpec"]["executors"]
    assert set(_tasks(spec)) == set(GROUPS) and len(executors) == len(GROUPS)
    for name, executor in executors.items():
        assert set(executor) == {"container"}, f"{name} is no container: {sorted(executor)}"
        container = executor["container"]
        assert "lifecycle" not in container, f"{name} wants a driver"
        assert container["image"] == "image:1"
        assert container["command"] == ["python", "-m", "imgpipe.pipeline.kubeflow.entry_point"]
        place = container["args"].index("--run_directory") + 1
        assert container["args"][place].endswith("/imgpipe-out/runs/<run>")


def test_guarded_tasks_depend_on_their_gates(spec: dict[str, Any]):
    tasks = _tasks(spec)
    assert "DataGate_blessing" in tasks["Training"]["inputs"]["artifacts"]
    published = set(tasks["Publishing"]["inputs"]["artifacts"])
    assert {"ImageEvaluator_blessing", "ServingValidator_blessing"} <= published
    assert "ImageTrainer_model_run" in published & set(tasks["Evaluation"]["inputs"]["artifacts"])
    assert tasks["Publishing"]["dependentTasks"] == ["Data", "Evaluation", "Plan", "Training"]
    cached = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert set(tasks) - cached == {"Plan", "Publishing"}


def test_some_settings_are_parameters_of_a_run(spec: dict[str, Any], tmp_path: Path):
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    defaults = {name: one.get("defaultValue") for name, one in parameters.items()}
    source = _tasks(spec)["Plan"]["inputs"]["parameters"]["source"]
    assert source == {"componentInputParameter": "source"}
    assert defaults.pop("source").endswith("/photos")
    assert defaults == {"threshold": 0.9, "epochs": 60, "image_size": 0}
    assert all(one["isOptional"] for one in parameters.values())
    without = _spec(_compiled(tmp_path, data=None))["root"]["inputDefinitions"]["parameters"]
    assert not {"defaultValue", "isOptional"} & set(without["source"])


@pytest.mark.parametrize("given", ["", "evaluate.tfma=true", "evaluate.tfma=false"])
def test_tfma_is_on_unless_it_is_set(tmp_path: Path, given: str):
    spec = _spec(_compiled(tmp_path, *filter(None, [given])))
    arguments = spec["deploymentSpec"]["executors"]["Plan_executor"]["container"]["args"]
    [described] = json.loads(arguments[arguments.index("--components") + 1])
    config = json.loads(described["constants"]["config"])
    assert config["evaluate"]["tfma"] is (given != "evaluate.tfma=false")


def test_parameters_that_depend_on_the_images_are_outputs_of_plan(spec: dict[str, Any]):
    tasks = _tasks(spec)
    produced = spec["components"]["Plan"]["outputDefinitions"]["parameters"]
    read = {
        (name, key): source["taskOutputParameter"]["outputParameterKey"]
        for name, task in tasks.items()
        for key, source in task["inputs"].get("parameters", {}).items()
        if "taskOutputParameter" in source
    }
    assert read["Data", "ImageExampleGen"] == "ImageExampleGen"
    assert set(read.values()) == set(produced)
    assert all("Plan" in tasks[name]["dependentTasks"] for name, _ in read)
    for name, key in read:
        component = spec["components"][tasks[name]["componentRef"]["name"]]
        wanted = component["inputDefinitions"]["parameters"][key]
        assert wanted == produced[read[name, key]], f"{name}.{key}"


def test_each_container_has_its_volumes_and_resources(tmp_path: Path):
    from kfp import components

    resources = "{default = {cpu = 2, memory = '4Gi'}, Training = {memory = '16Gi', gpu = 1}}"
    file = _compiled(tmp_path, f"kubeflow.resources={resources}")
    loaded = components.load_component_from_file(str(file))
    assert loaded.pipeline_spec.default_pipeline_root == "minio://bucket/root"
    spec, platforms = yaml.safe_load_all(file.read_text())
    json_format.ParseDict(platforms, pipeline_spec_pb2.PlatformSpec())
    executors = spec["deploymentSpec"]["executors"]
    mounted = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(mounted) == set(executors)
    for executor in mounted.values():
        (mount,) = executor["pvcMount"]
        assert mount["mountPath"] == str(tmp_path)
        assert mount["pvcNameParameter"]["runtimeValue"]["constant"] == "photos"
    limits = {
        name: executors[spec["components"][task["componentRef"]["name"]]["executorLabel"]][
            "container"
        ]["resources"]
        for name, task in _tasks(spec).items()
    }
    gpu = {"resourceType": "nvidia.com/gpu", "resourceCount": "1"}
    assert limits["Data"] == {
        "resourceCpuLimit": "2",
        "resourceMemoryLimit": "4Gi",
        "cpuLimit": 2.0,
        "memoryLimit": 4.294967296,
    }
    assert limits["Training"] == {
        "resourceMemoryLimit": "16Gi",
        "memoryLimit": 17.179869184,
        "accelerator": {**gpu, "type": "nvidia.com/gpu", "count": "1"},
    }


def test_the_document_shows_how_other_settings_of_the_pods_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from kfp.kubernetes import kubernetes_executor_config_pb2

    file = _compiled(tmp_path)
    before = _spec(file)
    document = REPOSITORY / "docs/kubeflow.md"
    [program] = [block.text for block in blocks(document) if "tolerations" in block.text]
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert _spec(file) == before
    _, platforms = yaml.safe_load_all(file.read_text())
    executors = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert len(executors) == len(GROUPS)
    for executor in executors.values():
        config = kubernetes_executor_config_pb2.KubernetesExecutorConfig()
        json_format.ParseDict(executor, config)
        assert config.image_pull_secret[0].secret_name == "registry-key"
        assert config.tolerations[0].effect == "NoSchedule"
        assert config.node_selector.labels == {"disk": "ssd"}
        assert config.pvc_mount


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["run.name=Cats_v2"], "run.name: expected small letters, .*Received: 'Cats_v2'"),
        (["beam.runner=portable", "beam.job_endpoint=localhost:8099"], "Received: 'portable'"),
        (["beam.args=['--runner=spark']"], r"no --runner in beam\.args"),
        (["data.source='/elsewhere'"], r"data\.source lies on no volume"),
        (["kubeflow.resources={Trainin = {cpu = 1}}"], "'Trainin'; nearest: Training"),
    ],
)
def test_settings_that_have_no_place_on_kubeflow_are_refused(
    tmp_path: Path, settings: list[str], told: str
):
    (tmp_path / "pipeline.yaml").write_text("compiled before")
    with pytest.raises(ConfigError, match=told):
        _compiled(tmp_path, *settings, data=None)
    assert (tmp_path / "pipeline.yaml").read_text() == "compiled before"


@pytest.mark.parametrize("root", ["", "/data/artifacts", "http://host/x"])
def test_a_root_that_is_not_in_an_object_store_is_refused(tmp_path: Path, root: str):
    with pytest.raises(ConfigError, match=r"beginning with minio://, s3://, gs://") as raised:
        _compiled(tmp_path, root=root)
    assert str(raised.value).startswith(f"--root {root}: ")
    assert not list(tmp_path.iterdir())


def test_the_command_describes_the_compiled_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    volume = f"kubeflow.volumes=[{{claim = 'photos', path = '{tmp_path}'}}]"
    words = ["--data", str(tmp_path / "photos"), "--image", "image:1", "--set", volume]
    output = tmp_path / "pipeline.yml"
    ended = ran("kubeflow", "compile", *words, "-o", output)
    assert f"wrote {output}: {len(_tasks(_spec(output)))} tasks, image image:1" in ended.stdout
    monkeypatch.setitem(sys.modules, "kfp", None)  # as if kfp were not installed
    with pytest.raises(ResourceError, match=r"needs the package kfp, .* pip install .*kfp"):
        _compiled(tmp_path)
