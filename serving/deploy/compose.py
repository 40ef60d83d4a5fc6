"""One server on one machine, with Docker Compose."""

from __future__ import annotations

from typing import Any

from imgpipe.serving.deploy import text_configs
from imgpipe.serving.deploy.commented import dump, note
from imgpipe.serving.deploy.settings import CONFIGS, DRAIN_SECONDS, GRPC_PORT, REST_PORT, Deployment

FILE = "docker-compose.yaml"
_HEAD = "Start with: docker compose up --detach. Then: imgpipe predict IMAGE --model {model}"


def service(wanted: Deployment) -> dict[str, Any]:
    """Return the document."""
    return {
        "services": {
            wanted.name: {
                "image": wanted.image,
                note(
                    "The default entry point of the image is configured by environment variables; "
                    "this one reads the configuration files next to this file."
                ): None,
                "entrypoint": ["/usr/bin/tensorflow_model_server"],
                "command": wanted.server_flags(),
                note(
                    "The ports are only open to this machine. To open one to others, write "
                    "8500:8500, behind a proxy that does TLS and authentication: the server does "
                    "neither."
                ): None,
                "ports": [
                    f"127.0.0.1:{GRPC_PORT}:{GRPC_PORT}",
                    f"127.0.0.1:{REST_PORT}:{REST_PORT}",
                ],
                "volumes": [
                    {
                        "type": "bind",
                        note(
                            "The folder that imgpipe pushes to. The server finds versions there."
                        ): None,
                        "source": str(wanted.base_path),
                        "target": wanted.container_path,
                        "read_only": True,
                    },
                    {"type": "bind", "source": ".", "target": CONFIGS, "read_only": True},
                ],
                "environment": {
                    note("Log level of the server, from 0 (everything) to 3 (fatal errors)."): None,
                    "TF_CPP_MIN_LOG_LEVEL": "1",
                    note(
                        "Fewer arenas return the memory of unloaded versions to the system sooner."
                    ): None,
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
    # bash opens the connection: the image contains neither curl nor wget. The program must not
    # contain $, which Compose would substitute.
    request = rf"GET {wanted.status_path} HTTP/1.0\r\nHost: localhost\r\n\r\n"
    program = (
        f"exec 3<>/dev/tcp/127.0.0.1/{REST_PORT} && printf '{request}' >&3 "
        '&& grep -q \'"state": *"AVAILABLE"\' <&3'
    )
    return {
        note("The server is healthy when a version is available."): None,
        "test": ["CMD", "bash", "-c", program],
        "interval": "10s",
        "timeout": "5s",
        "retries": 3,
        "start_period": "60s",
    }


def files(wanted: Deployment) -> dict[str, str]:
    """Return the contents of docker-compose.yaml and of the server's configuration files."""
    head = _HEAD.format(model=wanted.model)
    return {FILE: dump([service(wanted)], head), **text_configs.all_configs(wanted)}
