"""Opens addresses in a browser."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def show(address: str, console: Console) -> None:
    """Open an address in a browser; say so when there is none.

    Args:
        address: Address of a page.
        console: Where it is said.
    """
    import webbrowser

    if not _has_display():
        console.print("There is no display here. Open the page in a browser.")
        return
    try:
        webbrowser.get()
    except webbrowser.Error:
        console.print("No browser was found. Open the page in one.")
        return
    webbrowser.open(address)


def _has_display() -> bool:
    """Whether a browser can be shown; without this check, one for terminals would be started."""
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
