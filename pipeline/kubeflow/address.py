"""The address of an API server of Kubeflow Pipelines, with requests for its health and its logs.

Only the standard library is imported here, so that a wrong address is reported at once.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass

from imgpipe.models.errors import ConfigError, ResourceError

_HEALTH = "/apis/v2beta1/healthz"
_LOG = "/apis/v1alpha1/runs/{run}/nodes/{pod}/log"
_CONNECT_SECONDS = 10  # after which a server counts as absent


@dataclass(frozen=True)
class Address:
    """The address of an API server, and the credentials of requests.

    Attributes:
        host: URL, such as ``http://localhost:8080``.
        token: Bearer token, or None for a server without authentication.
        namespace: Namespace of a server with several users, or None.
    """

    host: str
    token: str | None = None
    namespace: str | None = None

    def check(self) -> None:
        """Check that the server answers, without importing kfp or TensorFlow.

        Raises:
            ConfigError: The host is no URL.
            ResourceError: Nothing answers there, or something else than Kubeflow Pipelines.
        """
        if not re.match(r"https?://[^/]", self.host):
            raise ConfigError(
                f"--host {self.host}: expected the URL of the API server of Kubeflow Pipelines, "
                "such as http://localhost:8080."
            )
        try:
            answer = self._read(_HEALTH)
        except urllib.error.HTTPError as error:
            raise ResourceError(self.refusal(error.code, error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise ResourceError(
                f"no API server of Kubeflow Pipelines answers at {self.host} ({reason}). Check "
                "--host, or make the server of a cluster reachable: "
                "kubectl port-forward -n kubeflow svc/ml-pipeline 8888, then "
                "--host http://localhost:8888"
            ) from error
        try:
            # A login page or another server may answer with status 200 too.
            healthy = isinstance(json.loads(answer), dict)
        except ValueError:
            healthy = False
        if not healthy:
            raise ResourceError(
                f"what answers at {self.host} is not the API server of Kubeflow Pipelines: "
                f"expected JSON from {_HEALTH}, received {answer[:60]!r}. Check --host, and pass "
                "--token if a login page is in between."
            )

    def log(self, run: str, pod: str) -> str:
        """Read the log of one pod of a run; "" when the server has none."""
        try:
            text = self._read(_LOG.format(run=run, pod=pod))
        except (OSError, http.client.HTTPException):
            return ""
        return "" if text.startswith('{"error') else text  # a failure is written with status 200

    def _read(self, path: str) -> str:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(self.host.rstrip("/") + path, headers=headers)
        with urllib.request.urlopen(request, timeout=_CONNECT_SECONDS) as answer:
            return str(answer.read().decode("utf-8", "replace"))

    def refusal(self, status: int, reason: str) -> str:
        """Describe an answer that is an error, and what to do about it.

        Args:
            status: HTTP status of the answer, 400 or higher.
            reason: Reason phrase of the answer.
        """
        if status in (401, 403):
            return (
                f"{self.host} refused the request with {status} {reason}. Pass a token with "
                "--token that may use Kubeflow Pipelines, and the --namespace it is for."
            )
        return f"{self.host} answered {status} {reason}. Check --host and the server's own log."
