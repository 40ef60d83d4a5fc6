"""Tells requests of a page that this server sent from those of other sites."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request


def is_foreign(request: Request) -> bool:
    """Return whether a request comes from a page that this server did not send.

    A page of another site has another Origin. A name that another site has pointed at this machine
    (DNS rebinding) has the same Origin as the Host header, so that connections from this machine
    must name it ``localhost`` or by its address.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    here, _ = request.scope.get("server") or ("", 0)
    try:
        if origin is not None and urlsplit(origin).netloc != host:
            return True
        return _is_loopback(here) and not _is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:  # urlsplit refuses addresses such as "[::1"
        return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
