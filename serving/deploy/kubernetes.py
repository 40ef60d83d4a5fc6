"""Deployment on Kubernetes: ConfigMap, Deployment, Service and HorizontalPodAutoscaler."""

from __future__ import annotations

from typing import Any

from imgpipe.serving.deploy import text_configs
from imgpipe.serving.deploy.commented import dump, note
from imgpipe.serving.deploy.settings import (
    BUSY_PERCENT,
    CONFIGS,
    DRAIN_SECONDS,
    GRPC_PORT,
    METRICS_PATH,
    REST_PORT,
    Deployment,
)

FILE = "kubernetes.yaml"
_H2C = "kubernetes.io/h2c"  # HTTP/2 without TLS, which the gRPC port speaks
_HEAD = (
    "Apply with: kubectl apply -f kubernetes.yaml. The servers read the versions from the folder "
    "{model} of the PersistentVolumeClaim {claim}. Set push.directory of imgpipe to the path where "
    "that folder is mounted, or copy OUT/model there: copy under another name first and then "
    "rename, because the server would load a version that is only copied in part."
)


def documents(wanted: Deployment) -> list[dict[str, Any]]:
    """Return the objects in the order in which Kubernetes must create them."""
    return [_config_map(wanted), _deployment(wanted), _service(wanted), _autoscaler(wanted)]


def files(wanted: Deployment) -> dict[str, str]:
    """Return the contents of kubernetes.yaml and of the configuration files of the server.

    The ConfigMap contains the configuration files; the separate files are only for reading.
    """
    head = _HEAD.format(claim=wanted.claim, model=wanted.model)
    return {FILE: dump(documents(wanted), head), **text_configs.all_configs(wanted)}


def _metadata(wanted: Deployment) -> dict[str, Any]:
    return {"name": wanted.name, "labels": {"app": wanted.name}}


def _config_map(wanted: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(wanted),
        "data": text_configs.all_configs(wanted),
    }


def _deployment(wanted: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(wanted),
        "spec": {
            note("The HorizontalPodAutoscaler sets the number of replicas."): None,
            "selector": {"matchLabels": {"app": wanted.name}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "template": {
                "metadata": {
                    "labels": {"app": wanted.name},
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(REST_PORT),
                        "prometheus.io/path": METRICS_PATH,
                    },
                },
                "spec": _pod(wanted),
            },
        },
    }


def _pod(wanted: Deployment) -> dict[str, Any]:
    return {
        note("This must be longer than the sleep in preStop."): None,
        "terminationGracePeriodSeconds": DRAIN_SECONDS + 15,
        "automountServiceAccountToken": False,
        "containers": [_container(wanted)],
        "volumes": [
            {"name": "config", "configMap": {"name": wanted.name}},
            {
                "name": "models",
                note(
                    "Several servers read the claim at once, so its access mode must be "
                    "ReadOnlyMany or ReadWriteMany."
                ): None,
                "persistentVolumeClaim": {"claimName": wanted.claim, "readOnly": True},
            },
        ],
    }


def _container(wanted: Deployment) -> dict[str, Any]:
    memory = f"{wanted.memory_gib}Gi"
    return {
        "name": "tensorflow-serving",
        "image": wanted.image,
        "command": ["/usr/bin/tensorflow_model_server"],
        "args": wanted.server_flags(),
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "http", "containerPort": REST_PORT},
        ],
        "resources": {
            note(
                "As many cores as in the flags above. While the server replaces a version, both "
                "versions are in memory: request twice the memory of the model."
            ): None,
            "requests": {"cpu": str(wanted.cpus), "memory": memory},
            "limits": {"memory": memory},
        },
        **_probes(wanted),
        "lifecycle": {
            "preStop": {
                note(
                    "tensorflow_model_server drops its requests on SIGTERM. During this sleep it "
                    "still answers requests, and the Service sends it no new ones."
                ): None,
                "exec": {"command": ["sleep", str(DRAIN_SECONDS)]},
            }
        },
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIGS, "readOnly": True},
            {
                "name": "models",
                "mountPath": wanted.container_path,
                "subPath": wanted.model,
                "readOnly": True,
            },
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _probes(wanted: Deployment) -> dict[str, Any]:
    status = {"path": wanted.status_path, "port": "http"}
    return {
        "startupProbe": {
            note("Allows 5 minutes to load and warm up: 60 attempts, 5 s apart."): None,
            "httpGet": dict(status),
            "periodSeconds": 5,
            "failureThreshold": 60,
        },
        "readinessProbe": {
            note(
                "The status of the model. The server only starts to listen when a version is "
                "loaded, so a server that answers is ready."
            ): None,
            "httpGet": dict(status),
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            note("Only checks the port: a restart does not help a server without a model."): None,
            "tcpSocket": {"port": "grpc"},
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
    }


def _service(wanted: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(wanted),
        "spec": {
            note(
                "The Service is headless: gRPC clients keep their connections open, so that behind "
                "a single address all requests of a client would go to one server. The client of "
                f"imgpipe finds every server at dns:///{wanted.name}:{GRPC_PORT} and uses them in "
                "turn. Remove this line where a service mesh or a gateway balances the requests."
            ): None,
            "clusterIP": "None",
            "selector": {"app": wanted.name},
            "ports": [
                {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "appProtocol": _H2C},
                {"name": "http", "port": REST_PORT, "targetPort": "http"},
            ],
        },
    }


def _autoscaler(wanted: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(wanted),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": wanted.name,
            },
            "minReplicas": wanted.fewest,
            "maxReplicas": wanted.most,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        note(
                            "Target load in percent of the requested cores; latency grows fast "
                            "above it."
                        ): None,
                        "target": {"type": "Utilization", "averageUtilization": BUSY_PERCENT},
                    },
                }
            ],
            "behavior": {
                "scaleDown": {
                    note(
                        "Scale down slowly, because a new server must load and warm up before it "
                        "can help."
                    ): None,
                    "stabilizationWindowSeconds": 300,
                }
            },
        },
    }
