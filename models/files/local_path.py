"""Paths that must be on this machine, where a pipeline may also name objects in a bucket."""

from __future__ import annotations

from pathlib import Path

from imgpipe.models.errors import ConfigError


def local_path(given: str, reader: str) -> Path:
    """Return a path, unless it is an address.

    Python would take ``gs://bucket/x`` for the folder ``gs:/bucket/x`` below the current folder.

    Args:
        given: Path, such as the URI of an artifact.
        reader: What uses the path, for the message.

    Raises:
        ConfigError: It is an address, such as ``gs://bucket/x``.
    """
    if "://" in given:
        raise ConfigError(
            f"{reader}: expected a local folder. Received: {given!r}. Mount the bucket and name "
            "its folder."
        )
    return Path(given)
