"""Configuration files to deploy tensorflow/serving with Docker Compose, Kubernetes or KServe.

``settings`` (the settings that all targets share) - ``text_configs`` (files of the server itself) -
``commented`` (YAML with comments) - ``compose``, ``kubernetes``, ``kserve`` (one target each). Each
target is a function from a ``Deployment`` to the contents of the files by name; see ``TARGETS``.
"""

from __future__ import annotations

from collections.abc import Callable

from imgpipe.serving.deploy import compose, kserve, kubernetes
from imgpipe.serving.deploy.settings import DeployError, Deployment

TARGETS: dict[str, Callable[[Deployment], dict[str, str]]] = {
    "compose": compose.files,
    "kubernetes": kubernetes.files,
    "kserve": kserve.files,
}
"""The deployment targets by name. Each returns the contents of its files by file name."""

__all__ = ["TARGETS", "DeployError", "Deployment"]
