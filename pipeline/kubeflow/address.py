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
_TOKEN = re.compile(r"[!-~]*")  # visible ASCII, https://www.rfc-editor.org/rfc/rfc6750#section-2.1


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Raises an HTTPError for a redirection, which would send the token to another address."""

    def redirect_request(self, *arguments: object, **named: object) -> None:
        """Follow no redirection."""


_opener = urllib.request.build_opener(_NoRedirects)


@dataclass(frozen=True)
class Address:
    """The address of an API server, and the credentials of requests.

    Attributes:
        host: URL, such as ``http://localhost:8080``.
        token: Bearer token, or None for a server without authentication.
    """

    host: str
    token: str | None = None

    def check(self) -> None:
        """Check that the server answers, without importing kfp or TensorFlow.

        Raises:
            ConfigError: The host is no URL, or the token has characters that no token has.
            ResourceError: Nothing answers there, or something else than Kubeflow Pipelines.
        """
        if self.token and not _TOKEN.fullmatch(self.token):
            raise ConfigError(
                "--token: expected visible ASCII characters without blanks, received other "
                "characters too. Copy the token again."
            )
        if not re.match(r"https?://[^/]", self.host):
            raise self._no_url()
        try:
            answer = self._read(_HEALTH)
        except ValueError as error:  # such as "http://[abc", or a host name that DNS cannot have
            raise self._no_url() from error
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

    def _no_url(self) -> ConfigError:
        return ConfigError(
            f"--host {self.host}: expected the URL of the API server of Kubeflow Pipelines, "
            "such as http://localhost:8080."
        )

    def _read(self, path: str) -> str:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(self.host.rstrip("/") + path, headers=headers)
        with _opener.open(request, timeout=_CONNECT_SECONDS) as answer:
            return str(answer.read().decode("utf-8", "replace"))

    def refusal(self, status: int, reason: str) -> str:
        """Describe an answer that is an error, and what to do about it.

        Args:
            status: HTTP status of the answer, 300 or higher.
            reason: Reason phrase of the answer.
        """
        if status < 400:
            return (
                f"{self.host} answered {status} {reason}, a redirection, which is not followed "
                "because it may lead to a login page or to another server. Pass --token if the "
                "server asks for one, or name the new address with --host."
            )
        if status in (401, 403):
            return (
                f"{self.host} refused the request with {status} {reason}. Pass a token with "
                "--token that may use Kubeflow Pipelines, and the --namespace it is for."
            )
        return f"{self.host} answered {status} {reason}. Check --host and the server's own log."
