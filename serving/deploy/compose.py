"""One server on one machine, with Docker Compose."""

from __future__ import annotations

from typing import Any

from imgpipe.serving.deploy import text_configs
from imgpipe.serving.deploy.commented import dump, note
from imgpipe.serving.deploy.settings import CONFIGS, DRAIN_SECONDS, GRPC_PORT, REST_PORT, Deployment

FILE = "docker-compose.yaml"
_HEAD = "Start with: docker compose up --detach. Then: imgpipe predict PICTURE --model {model}"


def service(wanted: Deployment) -> dict[str, Any]:
    """The document."""
    return {
        "services": {
            wanted.name: {
                "image": wanted.image,
                note(
                    "The image's own entry point serves a model by environment variables; ours "
                    "reads the files beside this one."
                ): None,
                "entrypoint": ["/usr/bin/tensorflow_model_server"],
                "command": wanted.server_flags(),
                note(
                    "Only this machine reaches the ports. For others write 8500:8500, behind "
                    "something that encrypts and asks who is there: the server does neither."
                ): None,
                "ports": [
                    f"127.0.0.1:{GRPC_PORT}:{GRPC_PORT}",
                    f"127.0.0.1:{REST_PORT}:{REST_PORT}",
                ],
                "volumes": [
                    {
                        "type": "bind",
                        note("Where imgpipe pushes to; new versions are found there."): None,
                        "source": str(wanted.base_path),
                        "target": wanted.container_path,
                        "read_only": True,
                    },
                    {"type": "bind", "source": ".", "target": CONFIGS, "read_only": True},
                ],
                "environment": {
                    note("What the server prints: 0 everything to 3 nearly nothing."): None,
                    "TF_CPP_MIN_LOG_LEVEL": "1",
                    note("Returns memory of unloaded versions to the system sooner."): None,
                    "MALLOC_ARENA_MAX": str(max(2, wanted.cpus)),
                },
                "restart": "unless-stopped",
                "stop_grace_period": f"{DRAIN_SECONDS}s",
                "healthcheck": _healthcheck(wanted),
                "deploy": {
                    "resources": {
                        "limits": {"cpus": str(wanted.cpus), "memory": f"{wanted.memory_gib}G"}
                    }
                },
            }
        }
    }


def _healthcheck(wanted: Deployment) -> dict[str, Any]:
    # bash's own TCP: the image holds neither curl nor wget. No $ in it: that is Compose's.
    request = rf"GET {wanted.status_path} HTTP/1.0\r\nHost: localhost\r\n\r\n"
    program = (
        f"exec 3<>/dev/tcp/127.0.0.1/{REST_PORT} && printf '{request}' >&3 "
        '&& grep -q \'"state": *"AVAILABLE"\' <&3'
    )
    return {
        note("Healthy once a version answers."): None,
        "test": ["CMD", "bash", "-c", program],
        "interval": "10s",
        "timeout": "5s",
        "retries": 3,
        "start_period": "60s",
    }


def files(wanted: Deployment) -> dict[str, str]:
    """docker-compose.yaml and the server's files."""
    head = _HEAD.format(model=wanted.model)
    return {FILE: dump([service(wanted)], head), **text_configs.all_configs(wanted)}
