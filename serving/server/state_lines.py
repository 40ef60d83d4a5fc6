"""The states of a server as JSON lines, for programs that start it and wait until it answers."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgpipe.serving.server.server import ModelServer

SCHEMA = 1
_log = logging.getLogger(__name__)


class StateLines:
    """Writes one JSON object a line for each change of a server.

    The first line says where the server listens, one line follows whenever a version has entered
    another state, and the last line says that the server has stopped.

    Args:
        write: Writes a line, which ends in a line feed. After it raised OSError, no further line
            is written, and the server goes on.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write: Callable[[str], object] | None = write
        self._known: dict[tuple[str, int], tuple[str, str]] = {}

    def listening(self, server: ModelServer) -> None:
        """Write the addresses of a server that has started."""
        rest = server.rest_target if server.rest_port > 0 else None
        self._line(
            "listening",
            grpc=server.target if server.port else None,
            rest=rest,
            page=f"{rest}/" if rest and server.shows_page else None,
            models={config.name: str(config.base_path) for config in server.core.configs.values()},
        )

    def write_changes(self, server: ModelServer) -> None:
        """Write the versions whose state has changed since the last call."""
        for name, model in sorted(server.core.models.items()):
            for line in model.states():
                state = (line.state.name, line.message)
                if self._known.get((name, line.version)) == state:
                    continue
                self._known[name, line.version] = state
                self._line(
                    "version",
                    model=name,
                    version=line.version,
                    state=line.state.name,
                    error=line.message or None,
                )

    def stopped(self, finished: bool) -> None:
        """Write that the server has stopped, and whether all requests had finished."""
        self._line("stopped", finished=finished)

    def _line(self, event: str, **fields: Any) -> None:
        if self._write is None:
            return
        line = {"schema": SCHEMA, "time": _now(), "event": event, **fields}
        try:
            self._write(json.dumps(line) + "\n")
        except OSError as error:
            self._write = None
            _log.error("the states of the server are no longer written: %s", error.strerror)


def _now() -> str:
    """Return the time as text, such as ``2026-01-31T12:00:00.123Z``."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return now.replace("+00:00", "Z")
