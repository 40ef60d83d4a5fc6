"""Opens addresses in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgpipe.models.machine.system import has_display

if TYPE_CHECKING:
    from rich.console import Console


def show(address: str, console: Console) -> None:
    """Open an address in a browser; say so when there is none.

    Args:
        address: Address of a page.
        console: Where it is said.
    """
    import webbrowser

    if not has_display():
        console.print("There is no display here. Open the page in a browser.")
        return
    try:
        webbrowser.get()
    except webbrowser.Error:
        console.print("No browser was found. Open the page in one.")
        return
    webbrowser.open(address)
