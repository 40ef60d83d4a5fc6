"""``imgpipe serve``: the embedded server in the foreground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.errors import ConfigError


def run(
    model_dir: Path,
    host: str,
    port: int,
    model: str,
    int8: bool = False,
    flags: Sequence[str] = (),
    rest_port: int = 0,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Args:
        model_dir: Base path holding numbered versions.
        host: Address to bind.
        port: gRPC port; 0 takes a free one.
        model: Name to serve it under.
        int8: Serve model.tflite where a version has one.
        flags: More flags of imgpipe-model-server, as they are.
        rest_port: REST port; 0 for none, -1 for any free one.
    """
    from components.manifest import version_numbers

    if not model_dir.is_dir():
        raise ConfigError(f"{model_dir} is no folder. Expected one with numbered versions below.")
    if not version_numbers(model_dir):
        below = sorted(child.name for child in model_dir.iterdir())[:5]
        raise ConfigError(
            f"{model_dir} holds no numbered version, such as {model_dir / '1'}. "
            f"It holds: {', '.join(below) or 'nothing'}."
        )
    from serving.server.model_server import main

    return main(
        [
            f"--model_name={model}",
            f"--model_base_path={model_dir.absolute()}",
            f"--host={host}",
            f"--port={port}",
            f"--rest_api_port={rest_port}",
            f"--prefer_tflite_model={str(int8).lower()}",
            *flags,
        ]
    )


def log_flags(prefix: Path | None, share: float, images: bool) -> list[str]:
    """Flags of imgpipe-model-server that keep requests below `prefix`; none without one."""
    if prefix is None:
        if images:
            raise ConfigError("--log-images needs --request-log PREFIX, where the log goes.")
        return []
    return [
        f"--request_log_prefix={prefix.expanduser().absolute()}",
        f"--request_log_sampling_rate={share}",
        f"--request_log_images={str(images).lower()}",
    ]
