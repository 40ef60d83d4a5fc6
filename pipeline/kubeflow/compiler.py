"""Compiles the graph for Kubeflow Pipelines, with what Kubernetes shows and reserves for a task.

The API server of Kubeflow Pipelines accepts only schema 2.1. TFX writes a bare
PipelineSpec if the name of the file ends in `.yaml`. Volumes stand in a second YAML document.

The graph is compiled with a runtime parameter of TFX for each value that a run is given, such as
the source, and for each value that the task Plan determines. In the PipelineSpec, the first become
parameters of the pipeline with defaults, and those of Plan become outputs of Plan, which other
tasks read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from imgpipe.models.errors import ConfigError, nearest
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.settings.given import READS
from imgpipe.models.settings.running import Resources, Volume
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.definition.plan import RUN_SETTINGS, run_settings
from imgpipe.pipeline.kubeflow import groups, places
from imgpipe.pipeline.kubeflow.groups import Spec

#: The command of each container.
COMMAND = ("python", "-m", "imgpipe.pipeline.kubeflow.entry_point")
_TFX_FILE = "pipeline.yaml"  # TFX's part, which would replace an earlier file before an error
_DEFAULT = "default"


def set_resources(spec: Spec, resources: Mapping[str, Resources]) -> None:
    """Write the limits of each task, or those of "default", into the containers of a PipelineSpec.

    Limits of a task that the pipeline does not have are a ConfigError.
    """
    tasks = spec["root"]["dag"]["tasks"]
    names = [_DEFAULT, *tasks]
    for name in resources:
        if name not in names:
            raise ConfigError(
                f"kubeflow.resources: this pipeline has no task {name!r}{nearest(name, names)}. "
                f"Expected one of {', '.join(names)}."
            )
    for name, task in tasks.items():
        limits = _limits(resources.get(name) or resources.get(_DEFAULT) or Resources())
        if limits:
            label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
            spec["deploymentSpec"]["executors"][label]["container"]["resources"] = limits


def _limits(given: Resources) -> Spec:
    """Limits as texts, and as the numbers that older servers read."""
    limits: Spec = {}
    if given.cpu:
        limits |= {"resourceCpuLimit": given.cpu, "cpuLimit": _number(given.cpu)}
    if given.memory:
        gigabytes = _number(given.memory) / 1e9
        limits |= {"resourceMemoryLimit": given.memory, "memoryLimit": gigabytes}
    if given.gpu:
        kind = given.gpu_type
        count = str(given.gpu)
        named = {"resourceType": kind, "resourceCount": count}
        limits["accelerator"] = {**named, "type": kind, "count": count}
    return limits


def _number(quantity: str) -> float:
    """Return the number that a quantity of Kubernetes stands for, such as 500m, 4G or 4Gi."""
    digits = quantity.rstrip("mkKMGTPEi")
    unit = quantity.removeprefix(digits)
    if unit == "m":
        return float(digits) / 1000
    base = 1024 if unit.endswith("i") else 1000
    return float(digits) * float(base ** " KMGTPE".index(unit[:1].upper() or " "))


def platforms(spec: Spec, volumes: Collection[Volume]) -> Spec:
    """Build the second document of the compiled file, a PlatformSpec with the volumes."""
    config = kubernetes_executor_config_pb2.KubernetesExecutorConfig()
    for volume in volumes:  # older servers read `constant`, newer ones the parameter
        mount = config.pvc_mount.add(mount_path=volume.path, constant=volume.claim)
        mount.pvc_name_parameter.runtime_value.constant.string_value = volume.claim
    mounted = json_format.MessageToDict(config)
    platform = pipeline_spec_pb2.PlatformSpec()
    executors = dict.fromkeys(spec["deploymentSpec"]["executors"], mounted)
    single = platform.platforms["kubernetes"]
    json_format.ParseDict({"deploymentSpec": {"executors": executors}}, single)
    return dict(json_format.MessageToDict(platform))


def run_directory(config: Settings) -> str:
    """Folder of a run on a volume, in which `places.RUN` stands for the id of the run."""
    return f"{config.places.out}/runs/{places.RUN}"


def compile_pipeline(pipeline: tfx_pipeline.Pipeline, config: Settings, output: Path) -> Path:
    """Write the PipelineSpec, and the volumes of its containers.

    Args:
        pipeline: The pipeline of `create_pipeline`. Its root is a URI that Kubeflow can reach, and
            becomes the default of a run that is submitted without a root.
        config: The configuration, whose paths lie on volumes.
        output: Path of the file. `.yaml` is appended if it ends in neither that nor `.yml`.

    Returns:
        The path of the written file.

    Raises:
        ConfigError: Resources are given for a task that the pipeline does not have.
    """
    kubeflow = config.kubeflow
    named = output.suffix in (".yaml", ".yml")
    target = output if named else output.with_name(output.name + ".yaml")
    with tempfile.TemporaryDirectory(prefix="imgpipe-compile-") as folder:
        runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
            config=kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
                default_image=kubeflow.image,
                default_commands=list(COMMAND),
                use_pipeline_spec_2_1=True,
            ),
            output_dir=folder,
            output_filename=_TFX_FILE,
        )
        runner.run(pipeline, write_out=True)
        spec = yaml.safe_load(Path(folder, _TFX_FILE).read_text(encoding="utf-8"))
    # TFX does not write the root into this form of the file.
    spec["defaultPipelineRoot"] = pipeline.pipeline_info.pipeline_root
    _connect(spec, pipeline)
    groups.group(spec, run_directory(config))
    set_resources(spec, kubeflow.resources)
    mounted = platforms(spec, kubeflow.volumes)
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    atomic_write(target, yaml.safe_dump_all([spec, mounted], sort_keys=False))
    return target


def placeholders(
    settings: Settings,
) -> tuple[dict[str, RuntimeParameter], dict[str, RuntimeParameter]]:
    """Create the parameters with which the graph is compiled.

    Args:
        settings: The settings, of which some are the defaults of the parameters of a run.

    Returns:
        The texts of the components, and the settings of a run; all are runtime parameters of TFX.
    """
    texts = {name: RuntimeParameter(groups.PLANNED + name, ptype=str) for name in READS}
    given = {
        name: RuntimeParameter(name, ptype=type(default), default=default)
        for name, default in run_settings(settings).items()
    }
    return texts, given


def _connect(spec: Spec, pipeline: tfx_pipeline.Pipeline) -> None:
    """Declare the placeholders as parameters of the pipeline and as outputs of Plan, in place."""
    declared = spec["root"]["inputDefinitions"]["parameters"]
    first = next(node for node in pipeline.components if node.id == "Plan")
    for name, setting in RUN_SETTINGS.items():
        declared[name]["description"] = f"The setting {setting}."
        default = first.exec_properties[name].default
        if default != "":  # a pipeline without a source is given one at each start
            declared[name] |= {"defaultValue": default, "isOptional": True}
    planned = {
        name: declared.pop(name) for name in list(declared) if name.startswith(groups.PLANNED)
    }
    outputs = spec["components"]["Plan"]["outputDefinitions"].setdefault("parameters", {})
    for name, kind in planned.items():
        outputs[name.removeprefix(groups.PLANNED)] = kind
