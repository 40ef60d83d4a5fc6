"""Writes the pages in docs/reference from the code that they describe.

`make docs` runs this program before it builds the site. A test compares the pages with the code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Python adds the folder of a program to the path.
from command_pages import commands, exit_codes
from json_page import json_formats
from metric_page import metrics
from settings_pages import checks, settings

_FOLDER = Path(__file__).resolve().parent.parent / "reference"
#: Functions that write the pages, by the names of their files.
PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "settings.md": settings,
    "checks.md": checks,
    "exit-codes.md": exit_codes,
    "json.md": json_formats,
    "metrics.md": metrics,
}
# The page of metrics imports TensorFlow, which would write to the terminal.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(folder: Path = _FOLDER) -> None:
    """Write all pages."""
    for name, write in PAGES.items():
        (folder / name).write_text(write(), "utf-8")


if __name__ == "__main__":
    main()
