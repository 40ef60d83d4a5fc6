"""URL patterns of the REST API, as in TensorFlow Serving (model_servers/http_rest_api_util.cc)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from imgpipe.serving.server.requests.predict import Spec
from imgpipe.serving.server.status import invalid

Action = Literal["predict", "classify", "regress", "metadata", "status"]
_MODEL = r"/v1/models"
_VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_INFERENCE = re.compile(
    rf"{_MODEL}/(?P<name>[^/:]+){_VERSION}:(?P<action>classify|regress|predict)", re.IGNORECASE
)
_DESCRIPTION = re.compile(
    rf"{_MODEL}(?:/(?P<name>[^/:]+))?{_VERSION}(?P<action>/metadata)?", re.IGNORECASE
)
_MAX_VERSION = (1 << 63) - 1


@dataclass(frozen=True)
class Target:
    """The requested action and the model."""

    action: Action
    spec: Spec


def is_api(path: str) -> bool:
    """Return whether ``path`` belongs to the API; other paths get an empty answer with 404."""
    return path[:4].lower() == "/v1/"


def parse(verb: str, path: str) -> Target:
    """Parse a request line.

    Args:
        verb: The HTTP method.
        path: The path as it was sent, with its query.

    Raises:
        StatusError: INVALID_ARGUMENT, the path, the verb or the version number is not valid.
    """
    pattern = {"POST": _INFERENCE, "GET": _DESCRIPTION}.get(verb)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise invalid(f"Malformed request: {verb} {path}")
    word = (match["action"] or "status").lower().lstrip("/")
    if not match["name"]:
        raise invalid("Missing model name in request.")
    # The digits are compared before they are converted, because a path may have thousands of them.
    version = None
    if match["version"]:
        digits = match["version"].lstrip("0") or "0"
        if len(digits) > len(str(_MAX_VERSION)) or int(digits) > _MAX_VERSION:
            raise invalid(f"Failed to convert version: {match['version']} to numeric.")
        version = int(digits)
    label = unquote(match["label"]) if match["label"] else None
    return Target(word, Spec(unquote(match["name"]), version, label))  # type: ignore[arg-type]
