"""Deployment under KServe, whose TensorFlow runtime is tensorflow/serving."""

from __future__ import annotations

from typing import Any

from imgpipe.serving.deploy.commented import dump, note
from imgpipe.serving.deploy.settings import BUSY_PERCENT, Deployment

FILE = "inference-service.yaml"
RUNTIME = "kserve-tensorflow-serving"
_GRPC_PORT = 9000  # the gRPC port of KServe's TensorFlow runtime
_CALLERS = 8
"""Number of concurrent requests that one server should handle."""
_HEAD = (
    "Apply with: kubectl apply -f inference-service.yaml. Requests use the name of the service, "
    "{name}, as the name of the model. For a canary rollout, push the new version to another "
    "folder, set storageUri to that folder and canaryTrafficPercent to its share of the traffic."
)


def inference_service(wanted: Deployment) -> dict[str, Any]:
    """Return the document."""
    resources = {"cpu": str(wanted.cpus), "memory": f"{wanted.memory_gib}Gi"}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": wanted.name,
            "annotations": {
                note(
                    "Use plain Deployments. Remove this line where Knative is installed, which "
                    "scales by the number of requests, and down to zero."
                ): None,
                "serving.kserve.io/deploymentMode": "RawDeployment",
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": wanted.fewest,
                "maxReplicas": wanted.most,
                note(
                    "Target load in percent of the requested cores. With Knative, use the metric "
                    f"concurrency and {_CALLERS} concurrent requests per server."
                ): None,
                "scaleMetric": "cpu",
                "scaleTarget": BUSY_PERCENT,
                note("Timeout of a request in seconds."): None,
                "timeout": 30,
                "model": _model(wanted, resources),
            }
        },
    }


def _model(wanted: Deployment, resources: dict[str, str]) -> dict[str, Any]:
    return {
        "modelFormat": {"name": "tensorflow"},
        "runtime": RUNTIME,
        note("grpc-v1 is TensorFlow Serving's gRPC interface; v1 is its REST interface."): None,
        "protocolVersion": "grpc-v1",
        note(
            "The folder of the versions. On a volume claim the server finds new versions by "
            "itself; from gs://, s3:// or https:// they are copied once, when the server starts."
        ): None,
        "storageUri": f"pvc://{wanted.claim}/{wanted.model}",
        "args": [
            f"--tensorflow_intra_op_parallelism={wanted.cpus}",
            f"--tensorflow_inter_op_parallelism={wanted.cpus}",
        ],
        note("The gRPC port. For REST, remove ports and set protocolVersion to v1."): None,
        "ports": [{"containerPort": _GRPC_PORT, "name": "h2c", "protocol": "TCP"}],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
    }


def files(wanted: Deployment) -> dict[str, str]:
    """Return the contents of inference-service.yaml."""
    return {FILE: dump([inference_service(wanted)], _HEAD.format(name=wanted.name))}
