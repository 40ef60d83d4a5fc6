"""Tests that the compiled PipelineSpec is valid and that open-source Kubeflow accepts it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the compiled and parsed pipeline of a folder of images."""
    return _spec(_compiled(tmp_path_factory.mktemp("kubeflow"), []))


def _spec(file: Path) -> dict[str, Any]:
    """Return the first document of a compiled file."""
    return next(yaml.safe_load_all(file.read_text()))


def _compiled(folder: Path, settings: list[str], data: str | None = "photos") -> Path:
    """Compile a pipeline and return its file; the images need not exist where it is compiled."""
    from imgpipe.pipeline.commands.kubeflow import compile as kubeflow

    source = data and str(folder / data)
    output = folder / "pipeline.yaml"
    given = [f"kubeflow.volumes=[{{claim = 'photos', path = '{folder}'}}]", *settings]
    kubeflow.compile_(None, source, output, "image:1", "minio://bucket/root", given)
    return output


def _tasks(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec["root"]["dag"]["tasks"])


def test_the_file_is_a_valid_pipeline_spec(spec: dict[str, Any]):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    assert spec["schemaVersion"] == "2.1.0"
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())


def test_every_task_is_a_plain_container(spec: dict[str, Any]):
    executors = spec["deploymentSpec"]["executors"]
    assert len(_tasks(spec)) == 16
    assert len(executors) == 16
    for name, executor in executors.items():
        assert set(executor) == {"container"}, f"{name} is no container: {sorted(executor)}"
        assert "lifecycle" not in executor["container"], f"{name} wants a driver"
        assert executor["container"]["image"] == "image:1"


def test_all_containers_run_the_entry_point(spec: dict[str, Any]):
    for executor in spec["deploymentSpec"]["executors"].values():
        assert executor["container"]["command"] == [
            "python",
            "-m",
            "imgpipe.pipeline.kubeflow.entry_point",
        ]


def test_the_given_root_is_the_default_pipeline_root(spec: dict[str, Any]):
    assert spec["defaultPipelineRoot"] == "minio://bucket/root"


def test_guarded_components_depend_on_their_gates(spec: dict[str, Any]):
    tasks = _tasks(spec)
    for guarded in ("FeatureBank", "ImageTrainer"):
        assert "DataGate" in tasks[guarded]["dependentTasks"]
    pusher = tasks["ModelPusher"]["inputs"]["artifacts"]
    assert {"model_blessing", "infra_blessing"} <= set(pusher)


def test_guarded_components_depend_on_optional_gates(tmp_path: Path):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    settings = ["evaluate.cross_validate=5"]
    spec = _spec(_compiled(tmp_path, settings))
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    tasks = _tasks(spec)
    assert len(tasks) == 16
    assert "folds" in tasks["ImageEvaluator"]["inputs"]["artifacts"]
    assert "cross_validation" in tasks["Report"]["inputs"]["artifacts"]
    assert "FeatureBank" in tasks["CrossValidator"]["dependentTasks"]


@pytest.mark.parametrize(
    ("output", "told"), [("no/x.yaml", "its folder does not exist"), (".", "is a folder")]
)
def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, output: str, told: str):
    from imgpipe.models.errors import ConfigError
    from imgpipe.pipeline.commands.kubeflow import compile as kubeflow

    with pytest.raises(ConfigError, match=told):
        kubeflow.compile_(None, str(tmp_path), tmp_path / output, "i", "r", [])


@pytest.mark.parametrize("root", ["", "/data/artifacts", "http://host/x"])
def test_a_root_that_is_not_in_an_object_store_is_refused(tmp_path: Path, root: str):
    from imgpipe.models.errors import ConfigError
    from imgpipe.pipeline.commands.kubeflow import compile as kubeflow

    with pytest.raises(ConfigError, match=r"beginning with minio://, s3://, gs://") as raised:
        kubeflow.compile_(None, str(tmp_path), tmp_path / "x.yaml", "i", root, [])
    assert str(raised.value).startswith(f"--root {root}: ")
    assert not (tmp_path / "x.yaml").exists()


def test_a_push_and_its_report_are_never_taken_from_the_cache(spec: dict[str, Any]):
    cached = {
        name: task.get("cachingOptions", {}).get("enableCache", False)
        for name, task in _tasks(spec).items()
    }
    executed = {name for name, enabled in cached.items() if not enabled}
    assert executed == {"Plan", "ModelPusher", "Report"}


def test_some_settings_are_parameters_of_a_run(spec: dict[str, Any]):
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    defaults = {name: one.get("defaultValue") for name, one in parameters.items()}
    source = _tasks(spec)["ImageExampleGen"]["inputs"]["parameters"]["source"]
    assert source == {"componentInputParameter": "source"}
    assert defaults.pop("source").endswith("/photos")
    assert defaults == {"threshold": 0.9, "epochs": 60, "image_size": 0}
    assert all(one["isOptional"] for one in parameters.values())


def test_without_a_source_the_parameter_source_is_required(tmp_path: Path):
    parameters = _spec(_compiled(tmp_path, [], None))["root"]["inputDefinitions"]["parameters"]
    assert not {"defaultValue", "isOptional"} & set(parameters["source"])


def test_parameters_that_depend_on_the_images_are_outputs_of_plan(spec: dict[str, Any]):
    tasks = _tasks(spec)
    produced = spec["components"]["Plan"]["outputDefinitions"]["parameters"]
    read = {
        (name, key): source["taskOutputParameter"]["outputParameterKey"]
        for name, task in tasks.items()
        for key, source in task["inputs"].get("parameters", {}).items()
        if "taskOutputParameter" in source
    }
    assert read["ImageExampleGen", "fingerprint"] == "fingerprint"
    assert read["Baseline", "version"] == "baseline_version"
    assert read["SchemaGen", "accepted_schema"] == "accepted_schema"
    assert read["ImageEvaluator", "settings"] == "evaluate"
    assert set(read.values()) == set(produced)
    assert all("Plan" in tasks[name]["dependentTasks"] for name, _ in read)
    for name, key in read:
        component = spec["components"][tasks[name]["componentRef"]["name"]]
        wanted = component["inputDefinitions"]["parameters"][key]
        assert wanted == produced[read[name, key]], f"{name}.{key}"


def test_without_kfp_the_error_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from imgpipe.models.errors import ResourceError
    from imgpipe.pipeline.commands.kubeflow import compile as kubeflow

    monkeypatch.setitem(sys.modules, "kfp", None)  # as if kfp were not installed
    with pytest.raises(ResourceError, match=r"imgpipe\[kubeflow\]") as raised:
        kubeflow.compile_(None, str(tmp_path), tmp_path / "x.yaml", "i", "r", [])
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    words = " ".join(f"'{one}'" for one in project["optional-dependencies"]["kubeflow"])
    assert f"`pip install {words}`" in str(raised.value)


def test_each_container_has_its_volumes_resources_and_retries(tmp_path: Path):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    resources = "{default = {cpu = 2, memory = '4Gi'}, ImageTrainer = {memory = '16Gi', gpu = 1}}"
    file = _compiled(tmp_path, [f"kubeflow.resources={resources}", "kubeflow.retries=3"])
    spec, platforms = yaml.safe_load_all(file.read_text())
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
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
    assert limits["StatisticsGen"] == {
        "resourceCpuLimit": "2",
        "resourceMemoryLimit": "4Gi",
        "cpuLimit": 2.0,
        "memoryLimit": 4.294967296,
    }
    assert limits["ImageTrainer"] == {
        "resourceMemoryLimit": "16Gi",
        "memoryLimit": 17.179869184,
        "accelerator": {
            "resourceType": "nvidia.com/gpu",
            "resourceCount": "1",
            "type": "nvidia.com/gpu",
            "count": "1",
        },
    }
    retries = {
        name: task.get("retryPolicy", {}).get("maxRetryCount", 0)
        for name, task in _tasks(spec).items()
    }
    assert retries.pop("DataGate") == 0
    assert set(retries.values()) == {3}


def test_kfp_can_load_the_compiled_file(tmp_path: Path):
    from kfp import components

    loaded = components.load_component_from_file(str(_compiled(tmp_path, [])))
    assert loaded.platform_spec.platforms["kubernetes"].deployment_spec.executors
    assert loaded.pipeline_spec.default_pipeline_root == "minio://bucket/root"


def _compiled_for_buckets(file: Path, *settings: str, root: str = "gs://bucket/root") -> Path:
    """Compile a pipeline whose containers share the bucket ``bucket``, and return its file."""
    from imgpipe.pipeline.commands.kubeflow import compile as kubeflow

    given = ["kubeflow.volumes=[{bucket = 'bucket'}]", *settings]
    kubeflow.compile_(None, "gs://bucket/photos", file, "image:1", root, given)
    return file


def test_the_client_of_vertex_ai_makes_a_job_of_a_file_for_buckets(tmp_path: Path):
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform

    file = _compiled_for_buckets(tmp_path / "pipeline.yaml")
    assert len(list(yaml.safe_load_all(file.read_text()))) == 1
    place = {"project": "p", "location": "us-central1", "credentials": AnonymousCredentials()}
    job = aiplatform.PipelineJob("hands", str(file), parameter_values={"epochs": 3}, **place)
    described = job.to_dict()
    assert described["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/root"
    assert described["runtimeConfig"]["parameterValues"] == {"epochs": 3.0}
    assert "ImageTrainer" in described["pipelineSpec"]["root"]["dag"]["tasks"]
    with pytest.raises(ValueError, match="rate is not found"):
        aiplatform.PipelineJob("hands", str(file), parameter_values={"rate": 3}, **place)


def test_containers_that_share_buckets_have_their_paths_below_gcs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from imgpipe.pipeline.kubeflow import mounts

    monkeypatch.delenv(mounts.ROOT, raising=False)
    spec = _spec(_compiled_for_buckets(tmp_path / "pipeline.yaml", "run.out='out'"))
    pusher = _tasks(spec)["ModelPusher"]["inputs"]["parameters"]["push_directory"]
    assert pusher["runtimeValue"]["constant"] == "/gcs/bucket/out/model"


def test_buckets_need_a_root_in_cloud_storage(tmp_path: Path):
    from imgpipe.models.errors import ConfigError

    with pytest.raises(ConfigError, match=r"expected a URI that begins with gs://"):
        _compiled_for_buckets(tmp_path / "pipeline.yaml", root="minio://bucket/root")
    assert not (tmp_path / "pipeline.yaml").exists()


def test_a_file_for_vertex_ai_is_not_submitted_to_kubeflow(tmp_path: Path):
    from imgpipe.models.errors import ConfigError
    from imgpipe.pipeline.commands.kubeflow import submit

    file = _compiled_for_buckets(tmp_path / "pipeline.yaml")
    with pytest.raises(ConfigError, match=r"is compiled for Vertex AI: .*aiplatform\.PipelineJob"):
        submit.command(file)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("run.name=Cats_v2", "run.name: expected small letters, .*Received: 'Cats_v2'"),
        ("train.strategy=multi_worker", r"train\.strategy: expected .*no other workers"),
        ("beam.runner=portable", "Received: 'portable'"),
    ],
)
def test_settings_that_have_no_place_on_kubeflow_are_refused(
    tmp_path: Path, setting: str, told: str
):
    from imgpipe.models.errors import ConfigError

    address = ["beam.job_endpoint=localhost:8099"] if "portable" in setting else []
    with pytest.raises(ConfigError, match=told) as raised:
        _compiled(tmp_path, [setting, *address])
    assert raised.value.exit_code == 2


def test_resources_of_an_unknown_component_are_refused(tmp_path: Path):
    from imgpipe.models.errors import ConfigError

    (tmp_path / "pipeline.yaml").write_text("compiled before")
    with pytest.raises(ConfigError, match="'ImageTrainr'; did you mean 'ImageTrainer'"):
        _compiled(tmp_path, ["kubeflow.resources={ImageTrainr = {cpu = 1}}"])
    assert (tmp_path / "pipeline.yaml").read_text() == "compiled before"


def test_the_command_describes_the_compiled_file(tmp_path: Path):
    from typer.testing import CliRunner

    from imgpipe.pipeline.commands.kubeflow import app

    volume = f"kubeflow.volumes=[{{claim = 'photos', path = '{tmp_path}'}}]"
    words = ["--data", str(tmp_path / "photos"), "--image", "image:1", "--set", volume]
    output = tmp_path / "pipeline.yml"
    ended = CliRunner().invoke(app, ["compile", *words, "-o", str(output)])
    assert ended.exit_code == 0, ended.output
    tasks = len(_tasks(_spec(output)))
    assert f"wrote {output}: {tasks} tasks, image image:1" in ended.stdout


def test_a_path_on_no_volume_is_refused_before_the_images_are_read(tmp_path: Path):
    from imgpipe.models.errors import ConfigError
    from imgpipe.pipeline.commands.kubeflow import compile as kubeflow

    with pytest.raises(ConfigError, match=r"data\.source lies on no volume"):
        kubeflow.compile_(
            None, str(tmp_path / "none"), tmp_path / "x.yaml", "", "minio://bucket/root", []
        )
