"""Servers on Kubernetes: configuration, Deployment, Service and what scales them."""

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
_H2C = "kubernetes.io/h2c"  # HTTP/2 without TLS, which gRPC is here
_HEAD = (
    "kubectl apply -f kubernetes.yaml. The versions lie on the claim {claim}, in the folder "
    "{model}: set push.directory of imgpipe to where that is mounted, or copy OUT/model there "
    "(beside first, then rename: a version that is seen half is loaded half)."
)


def documents(wanted: Deployment) -> list[dict[str, Any]]:
    """The objects in the order in which they are made."""
    return [_config_map(wanted), _deployment(wanted), _service(wanted), _autoscaler(wanted)]


def files(wanted: Deployment) -> dict[str, str]:
    """kubernetes.yaml, and the server's files for reading (the ConfigMap holds them)."""
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
            note("How many there are is the HorizontalPodAutoscaler's to say."): None,
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
        note("Longer than the sleep before the end, see preStop."): None,
        "terminationGracePeriodSeconds": DRAIN_SECONDS + 15,
        "automountServiceAccountToken": False,
        "containers": [_container(wanted)],
        "volumes": [
            {"name": "config", "configMap": {"name": wanted.name}},
            {
                "name": "models",
                note(
                    "Many servers read it at once: its access mode is ReadOnlyMany or "
                    "ReadWriteMany."
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
                "As many cores as the flags above say. While versions are swapped both are in "
                "memory: allow twice the model."
            ): None,
            "requests": {"cpu": str(wanted.cpus), "memory": memory},
            "limits": {"memory": memory},
        },
        **_probes(wanted),
        "lifecycle": {
            "preStop": {
                note(
                    "tensorflow_model_server drops its requests on SIGTERM. It goes on answering "
                    "while it sleeps here, and the Service sends it nothing new."
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
            note("Time to load and warm up: 60 tries of 5 s."): None,
            "httpGet": dict(status),
            "periodSeconds": 5,
            "failureThreshold": 60,
        },
        "readinessProbe": {
            note(
                "The model's status. The server listens only once a version is loaded, so an "
                "answer is a model that answers."
            ): None,
            "httpGet": dict(status),
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            note("The port alone: a server without a model is not helped by a restart."): None,
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
                "Headless: a gRPC client keeps its connections, and behind one address all of "
                "them would lie on one server. imgpipe's client finds every server by "
                f"dns:///{wanted.name}:{GRPC_PORT} and takes them in turn. Remove the line where a "
                "mesh or a gateway balances requests."
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
                        note("Of the requested cores; latency grows fast above."): None,
                        "target": {"type": "Utilization", "averageUtilization": BUSY_PERCENT},
                    },
                }
            ],
            "behavior": {
                "scaleDown": {
                    note("Slowly down: a new server loads and warms up before it helps."): None,
                    "stabilizationWindowSeconds": 300,
                }
            },
        },
    }
