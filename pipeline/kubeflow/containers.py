"""Volumes, CPUs, memory and GPUs of the containers of the compiled pipeline."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from imgpipe.models.errors import ConfigError, nearest
from imgpipe.pipeline.configuration.kubeflow import Resources, Volume
from imgpipe.pipeline.kubeflow.groups import Spec

_DEFAULT = "default"


def set_resources(spec: Spec, resources: Mapping[str, Resources]) -> None:
    """Write the limits of each task, or those of "default", into the containers of a PipelineSpec.

    Raises:
        ConfigError: The pipeline has no task of this name.
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
