"""Configuration of the served models: names, version policies and labels, and its text file.

The file is TensorFlow Serving's ``--model_config_file``, parsed with its protobuf messages. The
checks and their error messages are those of model_servers/server_core.cc.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.versions.remote_versions import (
    BasePath,
    RemotePath,
    base_path_of,
    check_readable,
)
from imgpipe.serving.server.versions.version_policy import VersionPolicy

PLATFORM = "tensorflow"
"""The only supported platform, as in the open-source version of TensorFlow Serving."""


@dataclass(frozen=True)
class RequestLogConfig:
    """Which requests are kept, and in which files; see ``request_log``."""

    path_prefix: str
    """Beginning of the paths of the files."""
    sampling_rate: float
    """Share of the requests that is kept, from 0 to 1."""


@dataclass(frozen=True)
class ModelConfig:
    """What to serve under one name."""

    name: str
    base_path: BasePath
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Version number by label, such as ``stable``."""
    platform: str = PLATFORM
    request_log: RequestLogConfig | None = None


def check(models: Sequence[ModelConfig]) -> None:
    """Check that the models can be served together.

    Raises:
        StatusError: INVALID_ARGUMENT, a name is empty or repeated, a base path cannot be read, a
            platform is not supported, or the path of a request log is a folder. The messages are
            TensorFlow Serving's where it has them.
    """
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
        if not model.name:
            raise invalid("A model needs a name. Received an empty one.")
        if isinstance(model.base_path, RemotePath):
            try:
                check_readable(model.base_path)
            except BadArgument as error:
                raise invalid(f"Model {model.name}: {error}") from error
        elif not model.base_path.is_absolute():
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got "
                f"base_path()={model.base_path}"
            )
        if model.platform != PLATFORM:
            raise invalid(
                f"Platform {model.platform or '(none)'} of model {model.name} is not served. "
                f"Expected: {PLATFORM}."
            )
        if model.request_log and not model.request_log.path_prefix.rpartition("/")[2]:
            raise invalid(
                f"The request log of model {model.name} needs the beginning of the paths of its "
                "files, such as /logs/requests. Received a folder: "
                f"{model.request_log.path_prefix!r}."
            )


def make_log_folders(before: Sequence[ModelConfig], after: Sequence[ModelConfig]) -> None:
    """Make the folders of the request logs that are new, whose writer only logs its errors.

    Args:
        before: The models that are served now.
        after: The models to serve from now on, which have been checked.

    Raises:
        StatusError: INVALID_ARGUMENT, a request log cannot be written.
    """
    known = {model.request_log.path_prefix for model in before if model.request_log}
    for model in after:
        if model.request_log and model.request_log.path_prefix not in known:
            _make_folder(Path(model.request_log.path_prefix).parent, model.name)


def _make_folder(folder: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        cause = f"to {folder}: {error.strerror}"
        if isinstance(error, FileExistsError):
            cause = f"because {folder} is a file, expected a folder"
        raise invalid(
            f"The request log of model {name} cannot be written {cause}. Choose another folder."
        ) from error


def check_change(before: Sequence[ModelConfig], after: Sequence[ModelConfig]) -> None:
    """Check that no model changes its platform.

    Args:
        before: The models that are served now.
        after: The models to serve from now on.

    Raises:
        StatusError: INVALID_ARGUMENT, a model changes its platform.
    """
    old = {model.name: model.platform for model in before}
    for model in after:
        if old.get(model.name, model.platform) != model.platform:
            raise invalid(
                f"Illegal to change a model's platform. For model {model.name} platform was "
                f"{old[model.name]} and new platform requested is {model.platform}"
            )


def from_proto(config: Any) -> list[ModelConfig]:
    """Return the models of a ``ModelServerConfig`` message.

    Raises:
        StatusError: INVALID_ARGUMENT, the message has no list of models, or a model in it is
            malformed.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported"
        )
    return [_model(entry) for entry in config.model_config_list.config]


def _model(entry: Any) -> ModelConfig:
    if entry.model_type and entry.model_platform:
        raise invalid("Illegal setting both model_type(deprecated) and model_platform.")
    if not entry.model_type and not entry.model_platform:
        raise invalid("Illegal setting neither model_type(deprecated) nor model_platform.")
    return ModelConfig(
        name=entry.name,
        base_path=base_path_of(entry.base_path),
        policy=_policy(entry.model_version_policy),
        labels=MappingProxyType(dict(entry.version_labels)),
        # 1 is ModelType.TENSORFLOW, the deprecated way to name the platform.
        platform=entry.model_platform or (PLATFORM if entry.model_type == 1 else "other"),
        request_log=_request_log(entry),
    )


def _policy(policy: Any) -> VersionPolicy:
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy("all")
    if kind == "specific":
        return VersionPolicy("specific", versions=tuple(policy.specific.versions))
    # Without a policy, the newest version is served. A number of 0 means 1.
    return VersionPolicy(num_versions=policy.latest.num_versions or 1)


def _request_log(entry: Any) -> RequestLogConfig | None:
    if not entry.HasField("logging_config"):
        return None
    logging = entry.logging_config
    prefix, rate = logging.log_collector_config.filename_prefix, logging.sampling_config
    if not prefix or not 0 <= rate.sampling_rate <= 1:
        raise invalid(
            f"logging_config of model {entry.name} needs a filename_prefix and a sampling_rate "
            f"from 0 to 1. Received: {prefix!r} and {rate.sampling_rate:g}."
        )
    return RequestLogConfig(prefix, rate.sampling_rate)


def to_proto(models: Sequence[ModelConfig]) -> Any:
    """Return the ``ModelServerConfig`` message of the models, the inverse of ``from_proto``."""
    from tensorflow_serving.config import model_server_config_pb2

    message = model_server_config_pb2.ModelServerConfig()
    message.model_config_list.SetInParent()
    for model in models:
        entry = message.model_config_list.config.add(
            name=model.name,
            base_path=str(model.base_path),
            model_platform=model.platform,
            version_labels=model.labels,
        )
        policy = entry.model_version_policy
        if model.policy.kind == "latest":
            policy.latest.num_versions = max(model.policy.num_versions, 1)
        elif model.policy.kind == "all":
            policy.all.SetInParent()
        else:
            policy.specific.SetInParent()
            policy.specific.versions.extend(model.policy.versions)
        if model.request_log:
            log = entry.logging_config
            log.log_collector_config.filename_prefix = model.request_log.path_prefix
            log.sampling_config.sampling_rate = model.request_log.sampling_rate
    return message


def read_models(file: Path) -> list[ModelConfig]:
    """Read the models of a ``--model_config_file``.

    Args:
        file: A ``ModelServerConfig`` in protobuf's text format.

    Returns:
        The models in the order of the file.

    Raises:
        BadArgument: The file cannot be read, is malformed, or has a custom configuration or none.
        StatusError: INVALID_ARGUMENT, a model in the file is malformed.
    """
    from tensorflow_serving.config import model_server_config_pb2

    from imgpipe.serving.server.textproto import parse

    config = parse(file, model_server_config_pb2.ModelServerConfig())
    if config.WhichOneof("config") is None:  # such as a file that is being written
        raise BadArgument(f"{file} holds no model_config_list.")
    if config.WhichOneof("config") != "model_config_list":
        raise BadArgument(f"{file} holds a custom model config. Expected a model_config_list.")
    return from_proto(config)


def label_not_available(model: str, version: int) -> StatusError:
    """Return TensorFlow Serving's error for a label whose version is not available."""
    return StatusError(
        Code.FAILED_PRECONDITION,
        f"Request to assign label to version {version} of model {model}, which is not currently "
        "available for inference",
    )
