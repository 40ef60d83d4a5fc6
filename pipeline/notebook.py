"""Shows pages in notebooks."""

from __future__ import annotations

import html
import sys


def frame(page: str, height: int = 800) -> str:
    """Wrap a page in a frame of its own, so that its style and its security policy stay its own.

    Args:
        page: The page as one HTML text.
        height: Height of the frame in pixels.

    Returns:
        HTML for the output of a cell.
    """
    return (
        f'<iframe sandbox="allow-popups" style="width: 100%; height: {height}px; border: 0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )


def in_notebook() -> bool:
    """Whether the program runs in a notebook, which can display HTML.

    IPython in a terminal cannot.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    kinds = {kind.__name__ for kind in type(shell).__mro__}
    return shell is not None and "TerminalInteractiveShell" not in kinds
