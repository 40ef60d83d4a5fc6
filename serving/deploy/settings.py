"""Settings of a deployment, which all targets share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

IMAGE = "tensorflow/serving:2.19.1"
"""Docker image, pinned because ``latest`` could change the server on a restart."""
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

        A name that begins with a digit gets the prefix ``m-``.

        Raises:
            DeployError: The name of the model cannot be converted to such a name.
        """
        name = re.sub(r"[^a-z0-9]+", "-", self.model.lower()).strip("-")
        name = f"m-{name}" if name[:1].isdigit() else name
        if not _KUBERNETES_NAME.fullmatch(name):
            raise DeployError(
                "A name in Kubernetes must consist of lowercase letters, digits and dashes, begin "
                f"with a letter and have at most 63 characters. Received: {self.model!r}."
            )
        return name

    @property
    def container_path(self) -> str:
        """Base path of the model inside the container."""
        return f"/models/{self.model}"

    @property
    def status_path(self) -> str:
        """REST path that answers 200 when the server knows a version."""
        return f"/v1/models/{quote(self.model, safe='')}"
