"""The settings of the server, from which the flags of `imgpipe-model-server` are derived.

They are declared once, and passed whole to everything that reads them. A flag of
tensorflow_model_server has the same name and meaning here. Two things differ on purpose: `--host`
listens on this machine only unless told otherwise, and `--rest_api_port=-1` selects any free
port.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from imgpipe.models.errors import ConfigError
from imgpipe.serving.look import PIXEL_LIMIT
from imgpipe.serving.server.model_configs import ModelConfig, VersionPolicy, read_models

if TYPE_CHECKING:
    import numpy as np


class Distribution(Protocol):
    """The distribution of the features of a version's training images."""

    def is_unlike(self, features: np.ndarray) -> np.ndarray:
        """Return whether each image is unlike all training images, [n], for features [n, D]."""


ReadDistribution: TypeAlias = Callable[[str], Distribution | None]
"""Reads the distribution of a version from its folder; None if it has none."""
DEFAULT_MAX_MESSAGE_BYTES = 64 << 20
"""Largest size of a gRPC request, four times what our client sends at once. TensorFlow Serving has
no limit below gRPC's limit of 2 GiB: a request of 0.6 MB made it allocate 1.45 GiB."""
_MAX_PORT = 65535


def _flag(default: Any, help: str, least: float = -math.inf, most: float = math.inf) -> Any:
    """Declare a setting that is also a flag.

    Args:
        default: The default, whose type is that of the flag.
        help: The description in `--help`.
        least: Smallest allowed number.
        most: Largest allowed number.
    """
    return dataclasses.field(default=default, metadata={"help": help, "least": least, "most": most})


@dataclass(frozen=True)
class Settings:
    """The settings of a server; for a file or a folder, an empty text means none.

    Raises:
        ConfigError: A number is out of range, or two settings contradict each other.
    """

    port: int = _flag(
        8500, "gRPC port; 0 for any free port, or for none with --grpc_socket_path", 0, _MAX_PORT
    )
    host: str = _flag("127.0.0.1", "address to listen on; 0.0.0.0 for all networks")
    allowed_hosts: str = _flag(
        "",
        "names in the Host header, divided by commas, by which this machine may be asked in "
        "addition to localhost; .example.com for all that end with it, * for any",
    )
    grpc_socket_path: str = _flag("", "Unix socket to listen on in addition")
    grpc_channel_arguments: str = _flag("", "arguments of the gRPC server as name=value,…")
    # TensorFlow releases Python's lock while it runs.
    grpc_max_threads: int = _flag(0, "number of requests at once; 0 for 16 for each core", 0)
    rest_api_port: int = _flag(0, "REST port; 0 for none, -1 for any free port", -1, _MAX_PORT)
    rest_api_timeout_in_ms: int = _flag(
        30_000, "time limit of a REST request in milliseconds, from its head to its answer", 1
    )
    web_page: bool = _flag(
        False, "show a page at / of the REST port, on which people can try the models"
    )
    ssl_key_file: str = _flag("", "private key of the server for TLS on both ports, as PEM")
    ssl_certificate_file: str = _flag("", "certificate chain of the server for TLS, as PEM")
    ssl_client_ca_file: str = _flag(
        "", "certificates, as PEM, of which clients must have one; empty for any client"
    )
    drain_seconds: float = _flag(30.0, "time in seconds to finish running requests on SIGTERM", 0)

    model_name: str = _flag("default", "name of the model in requests")
    model_base_path: str = _flag("", "directory of the numbered versions")
    model_config_file: str = _flag(
        "", "ModelServerConfig in text format, for several models, version policies and labels"
    )
    model_config_file_poll_wait_seconds: float = _flag(
        0.0, "seconds between two reads of the config file; 0 reads it once", 0
    )
    file_system_poll_wait_seconds: float = _flag(
        1.0, "seconds between two searches for versions; 0 searches once", 0
    )
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "new labels may name versions that are not loaded yet"
    )
    enable_reload_config_rpc: bool = _flag(
        False, "let clients change the served models (HandleReloadConfigRequest)"
    )
    max_image_pixels: int = _flag(
        PIXEL_LIMIT, "maximum number of pixels of an encoded image; 0 for any", 0
    )
    max_queued_requests: int = _flag(
        1024, "maximum number of waiting requests; further ones are refused; 0 for any", 0
    )
    request_log_prefix: str = _flag("", "keep PredictionLog records in <prefix>-….tfrecord")
    request_log_sampling_rate: float = _flag(0.01, "share of the requests that is kept", 0, 1)
    request_log_images: bool = _flag(False, "keep the images too")
    access_log: bool = _flag(False, "log a line for each request, without its content")
    monitoring_config_file: str = _flag(
        "", "not read: the metrics are always at /monitoring/prometheus/metrics of the REST port"
    )

    # The following settings are no flags.
    policy: VersionPolicy = dataclasses.field(default_factory=VersionPolicy)
    """Which versions of the model of `model_base_path` are served."""
    notice: str = ""
    """Sentence in the head of the page, such as why the model was not blessed; "" for none."""
    examples: tuple[bytes, ...] = ()
    """JPEG files that everybody at the page can see and try."""
    read_distribution: ReadDistribution | None = None
    """Reads the distribution of the training images from the folder of a version, by which the page
    says that an image is unlike all that the model has learned; None if the page does not."""
    max_load_retries: int = 5
    """Attempts to load a version after the first failure, as many as in TensorFlow Serving."""
    load_retry_seconds: float = 60.0
    """Seconds between two attempts."""
    max_bytes_in_flight: int = 1 << 30
    """Largest size of all gRPC requests together that wait or run: 16 of the largest; 0 for any.
    Requests that are still arriving are not counted."""
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    """Largest size of a gRPC request; -1 for gRPC's own limit of 2 GiB. Times
    `grpc_port.MAX_STREAMS`, it is the most memory that arriving requests of a connection take."""
    request_log_max_bytes: int = 256 << 20
    """Largest total size of the files of the request log; the oldest are deleted first."""

    def __post_init__(self) -> None:
        for field in _flags():
            value = getattr(self, field.name)
            limits = field.metadata
            if isinstance(value, int | float) and not limits["least"] <= value <= limits["most"]:
                upper = "" if limits["most"] == math.inf else f" and at most {limits['most']:g}"
                raise ConfigError(
                    f"--{field.name} must be at least {limits['least']:g}{upper}. Received: "
                    f"{value}."
                )
        if bool(self.ssl_key_file) != bool(self.ssl_certificate_file):
            raise ConfigError("TLS needs both --ssl_key_file and --ssl_certificate_file.")
        if self.ssl_client_ca_file and not self.ssl_key_file:
            raise ConfigError("--ssl_client_ca_file needs --ssl_key_file.")

    @property
    def hosts(self) -> list[str]:
        """The names of `allowed_hosts`."""
        return [name.strip() for name in self.allowed_hosts.split(",") if name.strip()]

    def models(self) -> list[ModelConfig]:
        """Return the models to serve: those of the config file, or the single one.

        Raises:
            ConfigError: The file cannot be read or is malformed, or no folder is named.
        """
        if self.model_config_file:
            return read_models(Path(self.model_config_file))
        if not (self.model_name and self.model_base_path):
            raise ConfigError("a server needs a model: model_name and model_base_path are empty.")
        base_path = Path(self.model_base_path)
        if "://" not in self.model_base_path:
            base_path = base_path.absolute()
            if base_path.exists() and not base_path.is_dir():
                raise ConfigError(f"the base path is a folder. Received a file: {base_path}.")
        return [ModelConfig(self.model_name, base_path, self.policy)]


def _flags() -> list[dataclasses.Field[Any]]:
    """Return the settings that are flags."""
    return [field for field in dataclasses.fields(Settings) if "help" in field.metadata]


def _boolean(text: str) -> bool:
    """Convert a boolean as tensorflow_model_server does: true, 1, t, false, 0 or f."""
    value = text.lower() in ("true", "1", "t")
    if not value and text.lower() not in ("false", "0", "f"):
        raise argparse.ArgumentTypeError(f"expected true or false, received {text!r}")
    return value


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the flags, which takes no abbreviated names."""
    from importlib.metadata import version

    parser = argparse.ArgumentParser(
        prog="imgpipe-model-server",
        description="Serve SavedModels over TensorFlow Serving's protocol.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"imgpipe {version('imgpipe')}")
    for field in _flags():
        kind = type(field.default)
        # As with tensorflow_model_server, `--flag` alone means `--flag=true`.
        form: dict[str, Any] = {"type": kind}
        if kind is bool:
            form = {"type": _boolean, "nargs": "?", "const": True}
        parser.add_argument(
            f"--{field.name}", default=field.default, help=field.metadata["help"], **form
        )
    return parser


def parse(argv: Sequence[str]) -> Settings:
    """Return the settings of a command line, which names at least one model.

    Args:
        argv: The arguments without the name of the program.

    Raises:
        SystemExit: With code 2, a flag is unknown or has a wrong value. The explanation is on
            stderr.
    """
    parser = make_parser()
    flags, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(
            f"unknown flags: {' '.join(unknown)}. See --help. Other flags of "
            "tensorflow_model_server need tensorflow/serving itself."
        )
    try:
        settings = Settings(**vars(flags))
    except ConfigError as error:
        parser.error(str(error))
    if not settings.model_base_path and not settings.model_config_file:
        parser.error("no model to serve: give --model_base_path or --model_config_file")
    return settings
