"""Which runtime a version directory gets, and what stands in front of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from serving.server.runtime import Runtime, SessionOptions, SessionRuntime
from serving.server.servable import Loader


@dataclass(frozen=True)
class LoaderOptions:
    """How versions are brought into memory."""

    session: SessionOptions = field(default_factory=SessionOptions)


def make_loader(options: LoaderOptions) -> Loader:
    """The function that loads a version directory."""

    def load(directory: Path) -> Runtime:
        return SessionRuntime(directory, options.session)

    return load
