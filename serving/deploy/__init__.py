"""Configuration files to deploy tensorflow/serving with Docker Compose, Kubernetes or KServe.

``settings`` describes the servers, and ``files`` fills in the templates of a target, which are the
files below ``templates`` with their comments.
"""

from __future__ import annotations

from imgpipe.serving.deploy.files import TARGETS
from imgpipe.serving.deploy.settings import DeployError, Deployment

__all__ = ["TARGETS", "DeployError", "Deployment"]
