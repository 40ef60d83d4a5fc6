"""Settings of a deployment, and the constants that all targets share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

IMAGE = "tensorflow/serving:2.19.1"
"""Docker image, pinned because ``latest`` could change the server on a restart."""
GRPC_PORT, REST_PORT = 8500, 8501
METRICS_PATH = "/monitoring/prometheus/metrics"
MODELS = "/models"
"""Path in the container where the folder of the models is mounted."""
CONFIGS = "/config"
DRAIN_SECONDS = 15
"""Time in seconds for which a server that will be stopped still answers, while it gets no new
requests. tensorflow_model_server does not handle SIGTERM and drops the requests in flight."""
BUSY_PERCENT = 70
"""Load in percent of the requested cores above which another server is started. Latency grows fast
beyond it."""
_KUBERNETES_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class DeployError(ValueError):
    """The settings of a deployment are not valid."""


@dataclass(frozen=True)
class Deployment:
    """Settings of the servers for one model."""

    model: str
    """Name of the model in requests, from which the names of all objects are made."""
    base_path: Path
    """Folder of the versions on this machine; only used by Docker Compose."""
    image: str = IMAGE
    """Docker image of the server."""
    cpus: int = 2
    """Number of CPU cores, and of threads, of each server."""
    memory_gib: int = 2
    """Memory of each server in GiB."""
    fewest: int = 2
    """Smallest number of servers, for targets that scale."""
    most: int = 8
    """Largest number of servers, for targets that scale."""
    claim: str = "imgpipe-models"
    """PersistentVolumeClaim with the versions, in a folder with the name of the model."""

    def __post_init__(self) -> None:
        if not self.model:
            raise DeployError("The name of the model must not be empty.")
        if min(self.cpus, self.memory_gib, self.fewest) < 1 or self.most < self.fewest:
            raise DeployError(
                "cpus, memory and the smallest number of servers must be 1 or more, and the "
                "largest number of servers not below the smallest. Received: "
                f"{self.cpus} cpus, {self.memory_gib} GiB, {self.fewest} to {self.most} servers."
            )

    @property
    def name(self) -> str:
        """Name of the Kubernetes objects: the model's name in lowercase, with dashes.

        Raises:
            DeployError: The name of the model cannot be converted to such a name.
        """
        name = re.sub(r"[^a-z0-9]+", "-", self.model.lower()).strip("-")
        if not _KUBERNETES_NAME.fullmatch(name):
            raise DeployError(
                "A name in Kubernetes must consist of lowercase letters, digits and dashes, begin "
                f"with a letter and have at most 63 characters. Received: {self.model!r}."
            )
        return name

    @property
    def container_path(self) -> str:
        """Base path of the model inside the container."""
        return f"{MODELS}/{self.model}"

    @property
    def status_path(self) -> str:
        """REST path that answers 200 when the server knows a version."""
        return f"/v1/models/{self.model}"

    def server_flags(self, configs: str = CONFIGS) -> list[str]:
        """Return the flags of tensorflow_model_server for the files in ``configs``."""
        return [
            f"--port={GRPC_PORT}",
            f"--rest_api_port={REST_PORT}",
            f"--model_config_file={configs}/models.config",
            "--model_config_file_poll_wait_seconds=60",
            "--file_system_poll_wait_seconds=5",
            "--enable_batching=true",
            f"--batching_parameters_file={configs}/batching.config",
            f"--monitoring_config_file={configs}/monitoring.config",
            "--enable_grpc_healthcheck_service=true",
            f"--tensorflow_intra_op_parallelism={self.cpus}",
            f"--tensorflow_inter_op_parallelism={self.cpus}",
        ]
