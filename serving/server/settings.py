"""The settings of the server, and the model that they name.

They are declared once, and passed whole to everything that reads them. A flag of
tensorflow_model_server has the same name and meaning here. Two things differ on purpose: `--host`
listens on this machine only unless told otherwise, and `--rest_api_port=-1` selects any free port.
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from imgpipe.models.errors import ConfigError
from imgpipe.models.files.image_limits import BODY_LIMIT, PIXEL_LIMIT
from imgpipe.models.files.regular_files import pattern_in
from imgpipe.serving.server.corrections import Corrections

ELSEWHERE = (
    "TensorFlow Serving reads the same folders, and serves several models, version labels and "
    "other version policies."
)


_LAST_PORT = 65535
_USUAL_SHARE = 0.1
"""Share of the requests that is logged."""

_LIKE_TENSORFLOW_SERVING = "Options in the style of tensorflow_model_server"


def _flag(default: Any, help: str, *names: str, **limits: float) -> Any:
    """Declare a setting that is also a flag, which has its name unless it is given `names`.

    The limits are the smallest and the largest allowed number, `min` and `max`.
    """
    return dataclasses.field(
        default=default, metadata={"names": names, "flag": {"help": help, **limits}}
    )


@dataclass(frozen=True)
class ServerSettings:
    """The settings of a server; for a file or a folder, an empty text means none.

    A ConfigError says that a setting is missing, or contradicts another one.
    """

    port: int = _flag(
        8500,
        "gRPC port; 0 for any free one.",
        min=0,
        max=_LAST_PORT,
    )
    rest_api_port: int | None = _flag(
        None,
        "Port of the REST interface and the web page; 0 for none, -1 for any free one. Default: "
        "the port after the gRPC port.",
        "--rest-port",
        "--rest_api_port",
        min=-1,
        max=_LAST_PORT,
    )
    web_page: bool = _flag(True, "Show a page at / of the REST port.", "--web/--no-web")
    host: str = _flag("127.0.0.1", "Address to bind; 0.0.0.0 for all networks.")
    allowed_hosts: list[str] | None = _flag(  # noqa: RUF009
        None,
        "Name by which requests of this machine may call it in addition to localhost, as a proxy "
        "passes it on; .example.com for all names that end with it, * for any. May be repeated.",
        "--allowed-host",
    )
    model_name: str = _flag("imgpipe", "Name of the served model.", "--model", "--model_name")
    request_log_prefix: str = _flag(
        "", "Prefix of the files to which requests are logged, for imgpipe drift.", "--request-log"
    )
    request_log_sampling_rate: float = _flag(
        _USUAL_SHARE, "Share of the requests to log.", "--log-share", min=0, max=1
    )
    request_log_images: bool = _flag(False, "Also log the images of the requests.", "--log-images")
    max_image_pixels: int = _flag(
        PIXEL_LIMIT,
        "Largest number of pixels of an encoded image; 0 for any.",
        min=0,
    )
    max_queued_requests: int = _flag(
        1024,
        "Largest number of waiting requests; further ones are refused; 0 for any.",
        min=0,
    )
    drain_seconds: float = _flag(30.0, "Seconds to finish running requests on SIGTERM.", min=0)

    model_base_path: str = _flag("", "Folder of the numbered versions, in place of OUT.")
    file_system_poll_wait_seconds: float = _flag(
        1.0, "Seconds between two searches for versions; 0 searches once.", min=0
    )
    rest_api_timeout_in_ms: int = _flag(
        30_000, "Time limit of a REST request in milliseconds, from its head to its answer.", min=1
    )
    # TensorFlow releases Python's lock while it runs.
    grpc_max_threads: int = _flag(0, "Number of requests at once; 0 for 4 for each core.", min=0)

    # The following settings are no flags.
    notice: str = ""
    """Sentence in the head of the page, such as why the model was not blessed; "" for none."""
    examples: tuple[bytes, ...] = ()
    """JPEG files that everybody at the page can see and try."""
    corrections: Corrections | None = None
    """Takes images that people at the page put right; None without `--corrections`."""
    max_bytes_in_flight: int = 1 << 30
    """Largest size of all requests together that arrive, wait or run, over both protocols: 16 of
    the largest. A request that finds no room waits, and its bytes stay with its client."""
    max_body_bytes: int = BODY_LIMIT
    """Largest size of a request. It is at most `max_bytes_in_flight`."""
    request_log_max_bytes: int = 256 << 20
    """Largest total size of the files of the request log; the oldest are deleted first."""

    def __post_init__(self) -> None:
        if not self.model_name:
            raise ConfigError("a model needs a name. Received an empty one.")
        logs = self.request_log_images or self.request_log_sampling_rate != _USUAL_SHARE
        if logs and not self.request_log_prefix:
            raise ConfigError(
                "--log-images and --log-share need --request-log PREFIX, the prefix of the log "
                "files."
            )

    @property
    def base_path(self) -> Path:
        """Folder of the numbered versions, which need not exist yet; or one version.

        A ConfigError says that there is none, or that it is no folder of this machine.
        """
        text = self.model_base_path
        if not text:
            raise ConfigError("a server needs a model: model_base_path is empty.")
        if "://" in text:
            raise ConfigError(
                f"expected an absolute path of a folder on this machine. Received: {text}. Folders "
                "in object stores need to be mounted, or TensorFlow Serving itself."
            )
        path = Path(text).absolute()
        if path.exists() and not path.is_dir():
            raise ConfigError(f"the base path is a folder. Received a file: {path}.")
        why = pattern_in(path)
        if why:
            raise ConfigError(f"model {self.model_name}: {why}")
        return path

    @property
    def rest_port(self) -> int:
        """The REST port; 0 for none, -1 for any free one."""
        if self.rest_api_port is not None:
            return self.rest_api_port
        # If the system chooses the gRPC port, another program may use the next number.
        return self.port + 1 if 0 < self.port < _LAST_PORT else -1

    @property
    def shows_page(self) -> bool:
        """Whether `/` of the REST port is the page to try the model."""
        return bool(self.rest_port and self.web_page)


def flags() -> list[inspect.Parameter]:
    """Return the flags as parameters of a command of Typer, for `ServerSettings`."""
    import typer  # which components that read a limit here do not need

    hints = get_type_hints(ServerSettings)
    parameters = []
    for field in dataclasses.fields(ServerSettings):
        if "flag" not in field.metadata:
            continue
        names = field.metadata["names"] or [f"--{field.name}"]
        panel = _LIKE_TENSORFLOW_SERVING if "_" in names[0] else None
        option = typer.Option(*names, rich_help_panel=panel, **field.metadata["flag"])
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=Annotated[hints[field.name], option],
            )
        )
    return parameters
