"""Configurations for the real thing: tensorflow/serving alone, on Kubernetes and under KServe.

``settings`` (what all of them need to know) - ``text_configs`` (the server's own files) -
``commented`` (YAML with remarks) - ``compose``, ``kubernetes``, ``kserve`` (one place each), each a
function from ``Deployment`` to the files by name; ``TARGETS`` names them.
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
"""Where to deploy to: files by name, each text ending with a line break."""

__all__ = ["TARGETS", "DeployError", "Deployment"]
