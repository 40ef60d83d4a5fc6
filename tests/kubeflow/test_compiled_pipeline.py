"""The compiled PipelineSpec: parseable, and nothing in it that open-source Kubeflow refuses."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The pipeline of a two-class folder, compiled and parsed."""
    return _compiled(tmp_path_factory.mktemp("kubeflow"), [])


def _compiled(folder: Path, settings: list[str]) -> dict[str, Any]:
    from imgpipe.pipeline.commands import kubeflow

    for label in ("a", "b"):
        (folder / "photos" / label).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (40, 40 + i)).save(folder / "photos" / label / f"{i}.png")
    output = folder / "pipeline.yaml"
    code = kubeflow.compile_(
        None, str(folder / "photos"), output, "image:1", "minio://bucket/root", settings
    )
    assert code == 0
    return yaml.safe_load(output.read_text())


def test_it_is_a_bare_pipeline_spec_of_the_accepted_schema(spec: dict[str, Any]):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    assert spec["schemaVersion"] == "2.1.0"
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())


def test_no_task_is_a_resolver_or_needs_a_driver(spec: dict[str, Any]):
    executors = spec["deploymentSpec"]["executors"]
    assert len(spec["root"]["dag"]["tasks"]) == 14
    assert len(executors) == 14
    for name, executor in executors.items():
        assert set(executor) == {"container"}, f"{name} is no container: {sorted(executor)}"
        assert "lifecycle" not in executor["container"], f"{name} wants a driver"
        assert executor["container"]["image"] == "image:1"


def test_containers_run_the_entry_point(spec: dict[str, Any]):
    for executor in spec["deploymentSpec"]["executors"].values():
        assert executor["container"]["command"] == [
            "python",
            "-m",
            "imgpipe.pipeline.kubeflow.entry_point",
        ]


def test_the_root_is_the_default_of_a_run(spec: dict[str, Any]):
    assert spec["defaultPipelineRoot"] == "minio://bucket/root"


def test_gates_are_inputs_of_what_they_guard(spec: dict[str, Any]):
    tasks = spec["root"]["dag"]["tasks"]
    for guarded in ("FeatureBank", "ImageTrainer"):
        assert "DataGate" in tasks[guarded]["dependentTasks"]
    pusher = tasks["ModelPusher"]["inputs"]["artifacts"]
    assert {"model_blessing", "infra_blessing"} <= set(pusher)


def test_optional_gates_are_inputs_of_what_they_guard(tmp_path: Path):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    settings = ["evaluate.cross_validate=5", "export.lite=['float16', 'int8']"]
    spec = _compiled(tmp_path, settings)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    tasks = spec["root"]["dag"]["tasks"]
    assert len(tasks) == 16
    for reader in ("ModelPusher", "Report"):
        assert {"cross_validation", "lite"} <= set(tasks[reader]["inputs"]["artifacts"])
    assert "Predictor" in tasks["LiteExporter"]["dependentTasks"]
    assert "FeatureBank" in tasks["CrossValidator"]["dependentTasks"]


def test_a_missing_folder_for_the_output_is_named(tmp_path: Path):
    from imgpipe.models.errors import ConfigError
    from imgpipe.pipeline.commands import kubeflow

    with pytest.raises(ConfigError, match="does not exist"):
        kubeflow.compile_(None, str(tmp_path), tmp_path / "no" / "x.yaml", "i", "r", [])


@pytest.mark.parametrize("root", ["", "/data/artifacts", "http://host/x"])
def test_a_root_that_is_no_object_store_is_refused(tmp_path: Path, root: str):
    from imgpipe.models.errors import ConfigError
    from imgpipe.pipeline.commands import kubeflow

    with pytest.raises(ConfigError, match=r"beginning with minio://, s3://, gs://") as raised:
        kubeflow.compile_(None, str(tmp_path), tmp_path / "x.yaml", "i", root, [])
    assert str(raised.value).startswith(f"--root {root}: ")
    assert not (tmp_path / "x.yaml").exists()


def test_a_push_and_its_report_are_never_taken_from_the_cache(spec: dict[str, Any]):
    cached = {
        name: task.get("cachingOptions", {}).get("enableCache", False)
        for name, task in spec["root"]["dag"]["tasks"].items()
    }
    assert {name for name, enabled in cached.items() if not enabled} == {"ModelPusher", "Report"}


def test_without_kfp_it_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from imgpipe.models.errors import ResourceError
    from imgpipe.pipeline.commands import kubeflow

    monkeypatch.setitem(sys.modules, "kfp", None)  # as Python finds a package that is missing
    with pytest.raises(ResourceError, match=r"imgpipe\[kubeflow\]") as raised:
        kubeflow.compile_(None, str(tmp_path), tmp_path / "x.yaml", "i", "r", [])
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (requirement,) = project["optional-dependencies"]["kubeflow"]
    assert f"`pip install '{requirement}'`" in str(raised.value)
