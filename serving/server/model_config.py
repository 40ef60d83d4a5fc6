"""What is served: one model, as the flags or TensorFlow Serving's `--model_config_file` name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import pattern_in
from imgpipe.serving.server.settings import Settings

PLATFORM = "tensorflow"
"""The only supported platform, as in the open-source version of TensorFlow Serving."""
ELSEWHERE = (
    "TensorFlow Serving reads the same folders, and serves several models, version labels and "
    "other version policies."
)


@dataclass(frozen=True)
class ModelConfig:
    """The model that is served, and how many of its versions.

    Raises:
        ConfigError: The name is empty, or the base path is relative or a pattern.
    """

    name: str
    base_path: Path
    """Folder of the numbered versions, which need not exist yet; or one version, which is the only
    one that is served."""
    versions: int = 1
    """Number of the newest versions that are served."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a model needs a name. Received an empty one.")
        if not self.base_path.is_absolute():
            raise ConfigError(
                f"expected an absolute path of a folder on this machine. Received: "
                f"{self.base_path}. Folders in object stores need to be mounted, or TensorFlow "
                "Serving itself."
            )
        if self.base_path.exists() and not self.base_path.is_dir():
            raise ConfigError(f"the base path is a folder. Received a file: {self.base_path}.")
        why = pattern_in(self.base_path)
        if why:
            raise ConfigError(f"model {self.name}: {why}")


def of_settings(settings: Settings) -> ModelConfig:
    """Return the model of the config file or the flags; a ConfigError says what is wrong."""
    if settings.model_config_file:
        return _of_file(Path(settings.model_config_file))
    path = settings.model_base_path
    if not path:
        raise ConfigError("a server needs a model: model_base_path is empty.")
    base_path = Path(path) if "://" in path else Path(path).absolute()
    return ModelConfig(settings.model_name, base_path, settings.versions)


def _of_file(file: Path) -> ModelConfig:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(file.read_text("utf-8"), config)
        return of_message(config)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Invalid protobuf file: '{file}'. Error parsing text-format "
            f"{config.DESCRIPTOR.full_name}: {error}"
        ) from error


def of_message(config: Any) -> ModelConfig:
    """Return the model of a `ModelServerConfig`; a ConfigError refuses all other things in it."""
    entries = config.model_config_list.config
    if len(entries) != 1:
        raise ConfigError(
            "expected a model_config_list with one model, which is what this server serves. "
            f"Received: {', '.join(entry.name for entry in entries) or 'none'}. {ELSEWHERE}"
        )
    (entry,) = entries
    # 1 is ModelType.TENSORFLOW, the deprecated way to name the platform.
    if entry.model_platform != PLATFORM and entry.model_type != 1:
        raise ConfigError(
            f"the platform of model {entry.name} is not served. Expected: model_platform: "
            f'"{PLATFORM}". Received: {entry.model_platform or "none"}.'
        )
    policy = entry.model_version_policy
    allowed = {"name", "base_path", "model_platform", "model_type", "model_version_policy"}
    fields = {field.name for field, _ in (*entry.ListFields(), *policy.ListFields())}
    others = fields - allowed - {"latest"}
    if others:
        raise ConfigError(
            f"this server does not serve {', '.join(sorted(others))} of model {entry.name}. "
            f"{ELSEWHERE}"
        )
    return ModelConfig(entry.name, Path(entry.base_path), policy.latest.num_versions or 1)
