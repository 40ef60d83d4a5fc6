"""Servers under KServe: its TensorFlow runtime is tensorflow/serving, given name and folder."""

from __future__ import annotations

from typing import Any

from imgpipe.serving.deploy.commented import dump, note
from imgpipe.serving.deploy.settings import BUSY_PERCENT, Deployment

FILE = "inference-service.yaml"
RUNTIME = "kserve-tensorflow-serving"
_GRPC_PORT = 9000  # of KServe's TensorFlow runtime
_CALLERS = 8
"""Requests at a time that one server should carry."""
_HEAD = (
    "kubectl apply -f inference-service.yaml. The model's name there is that of the service, "
    "{name}. Canary: push the new version to another folder, set storageUri to it and "
    "canaryTrafficPercent to its share."
)


def inference_service(wanted: Deployment) -> dict[str, Any]:
    """The document."""
    resources = {"cpu": str(wanted.cpus), "memory": f"{wanted.memory_gib}Gi"}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": wanted.name,
            "annotations": {
                note(
                    "Plain Deployments. Leave the line out where Knative runs: then it scales by "
                    "requests, to zero too."
                ): None,
                "serving.kserve.io/deploymentMode": "RawDeployment",
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": wanted.fewest,
                "maxReplicas": wanted.most,
                note(
                    "Per cent of the requested cores. Where Knative runs: concurrency, and "
                    f"{_CALLERS} requests at a time for a server."
                ): None,
                "scaleMetric": "cpu",
                "scaleTarget": BUSY_PERCENT,
                note("Seconds a request may take."): None,
                "timeout": 30,
                "model": _model(wanted, resources),
            }
        },
    }


def _model(wanted: Deployment, resources: dict[str, str]) -> dict[str, Any]:
    return {
        "modelFormat": {"name": "tensorflow"},
        "runtime": RUNTIME,
        note("REST is v1, TensorFlow Serving's own; gRPC is grpc-v1."): None,
        "protocolVersion": "grpc-v1",
        note(
            "The folder of the versions. From a claim the server finds new ones by itself; from "
            "gs://, s3:// or https:// they are copied once, when the server starts."
        ): None,
        "storageUri": f"pvc://{wanted.claim}/{wanted.model}",
        "args": [
            f"--tensorflow_intra_op_parallelism={wanted.cpus}",
            f"--tensorflow_inter_op_parallelism={wanted.cpus}",
        ],
        note("gRPC. For REST leave ports out and say protocolVersion v1."): None,
        "ports": [{"containerPort": _GRPC_PORT, "name": "h2c", "protocol": "TCP"}],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
    }


def files(wanted: Deployment) -> dict[str, str]:
    """inference-service.yaml."""
    return {FILE: dump([inference_service(wanted)], _HEAD.format(name=wanted.name))}
