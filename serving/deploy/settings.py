"""What a deployment is made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

IMAGE = "tensorflow/serving:2.19.1"
"""Pinned: ``latest`` would change the server on a restart."""
GRPC_PORT, REST_PORT = 8500, 8501
METRICS_PATH = "/monitoring/prometheus/metrics"
MODELS = "/models"
"""Where the versions are mounted in the container."""
CONFIGS = "/config"
DRAIN_SECONDS = 15
"""Between the moment a server is to end and its end. tensorflow_model_server has no handler of
SIGTERM and drops what it is answering; meanwhile nobody sends it anything new any more."""
BUSY_PERCENT = 70
"""Of the requested cores, above which another server is started: latency grows fast beyond."""
_KUBERNETES_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class DeployError(ValueError):
    """A deployment that cannot be; the message is for people."""


@dataclass(frozen=True)
class Deployment:
    """One model on servers of a kind."""

    model: str
    """Name that requests use, and of everything that is made."""
    base_path: Path
    """Folder of the versions on this machine; only compose reads it there."""
    image: str = IMAGE
    cpus: int = 2
    """Processor cores of a server; its threads are as many."""
    memory_gib: int = 2
    fewest: int = 2
    most: int = 8
    """Servers, where something counts them."""
    claim: str = "imgpipe-models"
    """PersistentVolumeClaim that holds the versions in a folder of the model's name."""

    def __post_init__(self) -> None:
        if not self.model:
            raise DeployError("A model has a name. Received an empty one.")
        if min(self.cpus, self.memory_gib, self.fewest) < 1 or self.most < self.fewest:
            raise DeployError(
                "cpus, memory and the fewest servers are 1 or more, the most not below the "
                f"fewest. Received: {self.cpus}, {self.memory_gib}, {self.fewest}-{self.most}."
            )

    @property
    def name(self) -> str:
        """The model's name as Kubernetes wants names: small letters, digits and dashes.

        Raises:
            DeployError: the name cannot be made one.
        """
        name = re.sub(r"[^a-z0-9]+", "-", self.model.lower()).strip("-")
        if not _KUBERNETES_NAME.fullmatch(name):
            raise DeployError(
                "Kubernetes takes names of small letters, digits and dashes, of at most 63 "
                f"characters, that begin with a letter. Received: {self.model!r}."
            )
        return name

    @property
    def container_path(self) -> str:
        """Base path inside the container."""
        return f"{MODELS}/{self.model}"

    @property
    def status_path(self) -> str:
        """REST path that answers 200 once a version is known to the server."""
        return f"/v1/models/{self.model}"

    def server_flags(self, configs: str = CONFIGS) -> list[str]:
        """Flags of tensorflow_model_server for these files."""
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
