"""Settings of servers in tests: any free port, and quick polls."""

from __future__ import annotations

from typing import Any

from imgpipe.serving.server.settings import Settings

POLL_S = 0.05


def quick(**changes: Any) -> Settings:
    """Return settings of a server that finds versions quickly and loads each of them once."""
    usual = {
        "port": 0,
        "rest_api_port": 0,
        "web_page": False,
        "file_system_poll_wait_seconds": POLL_S,
        "max_load_retries": 0,
    }
    return Settings(**usual | changes)
