"""Configuration of the served models: names, version policies and labels, and its text file.

The file is TensorFlow Serving's `--model_config_file`, parsed with its protobuf messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from imgpipe.models.errors import ConfigError
from imgpipe.models.files.plain_paths import pattern_in
from imgpipe.serving.server.status import StatusError, invalid

_PLATFORM = "tensorflow"
"""The only supported platform, as in the open-source version of TensorFlow Serving."""


@dataclass(frozen=True)
class VersionPolicy:
    """Rule that selects the versions to serve from those that exist."""

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    """Number of versions to serve with `latest`; 0 means 1."""
    versions: tuple[int, ...] = ()
    """Numbers of the versions to serve with `specific`."""

    @property
    def asks_for_nothing(self) -> bool:
        """Whether no version at all is to be served: `specific` without numbers."""
        return self.kind == "specific" and not self.versions

    def choose(
        self, existing: Iterable[int], usable: Callable[[int], bool], failing: Callable[[int], bool]
    ) -> list[int]:
        """Return the versions among `existing` to serve now, newest first.

        With `latest`, a version that fails to load stays among them, so that its load is tried
        again, and an older version serves in its place.

        Args:
            existing: The numbers of all existing versions.
            usable: Returns whether the files of a version are complete. It is called for no more
                versions than necessary, because it must read the files.
            failing: Returns whether a usable version fails to load.
        """
        chosen = []
        left = max(self.num_versions, 1)
        for number in sorted(existing, reverse=True):
            asked = self.kind != "specific" or number in self.versions
            if left and asked and usable(number):
                chosen.append(number)
                left -= self.kind == "latest" and not failing(number)
        return chosen


@dataclass(frozen=True)
class ModelConfig:
    """What to serve under one name."""

    name: str
    base_path: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Version number by label, such as `stable`."""


def check(models: Sequence[ModelConfig]) -> None:
    """Check that the models can be served together.

    Raises:
        StatusError: INVALID_ARGUMENT, a name is empty or repeated, or a base path is relative or
            a pattern.
    """
    seen: set[str] = set()
    for model in models:
        if not model.name:
            raise invalid("A model needs a name. Received an empty one.")
        if model.name in seen:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
        if not model.base_path.is_absolute():
            raise invalid(
                f"Expected model {model.name} to have an absolute path of a folder on this "
                f"machine; got base_path()={model.base_path}. Folders in object stores need to be "
                "mounted, or TensorFlow Serving itself."
            )
        if why := pattern_in(model.base_path):
            raise invalid(f"Model {model.name}: {why}")


def read_models(file: Path) -> list[ModelConfig]:
    """Read the models of a `--model_config_file`.

    Args:
        file: A `ModelServerConfig` in protobuf's text format.

    Returns:
        The models in the order of the file.

    Raises:
        ConfigError: The file cannot be read or is malformed.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(file.read_text("utf-8"), config)
        return from_proto(config)
    except StatusError as error:
        raise ConfigError(f"{file}: {error.message}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Invalid protobuf file: '{file}'. Error parsing text-format "
            f"{config.DESCRIPTOR.full_name}: {error}"
        ) from error


def from_proto(config: Any) -> list[ModelConfig]:
    """Return the models of a `ModelServerConfig` message.

    Raises:
        StatusError: INVALID_ARGUMENT, the message has no list of models, or a model in it is
            malformed.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid("The configuration of the models needs a model_config_list.")
    return [_model(entry) for entry in config.model_config_list.config]


def _model(entry: Any) -> ModelConfig:
    # 1 is ModelType.TENSORFLOW, the deprecated way to name the platform.
    if entry.model_platform != _PLATFORM and entry.model_type != 1:
        raise invalid(
            f"Platform {entry.model_platform or '(none)'} of model {entry.name} is not served. "
            f'Expected: model_platform: "{_PLATFORM}".'
        )
    if entry.HasField("logging_config"):
        raise invalid(f"Model {entry.name} has a logging_config. Use --request_log_prefix instead.")
    policy = entry.model_version_policy
    chosen = VersionPolicy(num_versions=policy.latest.num_versions or 1)
    if policy.HasField("all"):
        chosen = VersionPolicy("all")
    elif policy.HasField("specific"):
        chosen = VersionPolicy("specific", versions=tuple(policy.specific.versions))
    labels = MappingProxyType(dict(entry.version_labels))
    return ModelConfig(entry.name, Path(entry.base_path), chosen, labels)
