"""Opens addresses in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgpipe.models.machine.system import has_display

if TYPE_CHECKING:
    from rich.console import Console


def show(address: str, console: Console) -> None:
    """Open the address of a page in a browser; say so when there is none."""
    import webbrowser

    # Without a display, `webbrowser` would start a browser in the terminal.
    if not has_display() or not webbrowser.open(address):
        console.print("No browser was found here. Open the page in one.")
