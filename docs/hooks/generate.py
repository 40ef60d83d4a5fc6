"""Hooks of MkDocs: pages that are generated from the code, and notes at blocks that no test runs.

MkDocs calls the functions whose names begin with ``on_``. The generated pages exist only in the
built site, so they cannot differ from the code; the files in docs/reference stand in for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# MkDocs adds the folder of a hook to the path.
from command_pages import commands, exit_codes
from json_page import json_formats
from metric_page import metrics
from mkdocs.structure.files import File, Files
from settings_pages import checks, settings

_ROOT = Path(__file__).resolve().parent.parent.parent


def _from_root(name: str) -> str:
    """Return a file of the repository's root with its links relative to docs/."""
    text = (_ROOT / name).read_text("utf-8")
    return text.replace("](docs/", "](").replace("](CHANGELOG.md", "](changelog.md")


#: Pages that are made when the site is built, by their path below docs/.
PAGES: dict[str, Callable[[], str]] = {
    "index.md": lambda: _from_root("README.md"),
    "reference/commands.md": commands,
    "reference/settings.md": settings,
    "reference/checks.md": checks,
    "reference/exit-codes.md": exit_codes,
    "reference/json.md": json_formats,
    "reference/metrics.md": metrics,
    "changelog.md": lambda: _from_root("CHANGELOG.md"),
}
# The page of metrics imports TensorFlow, which would write to the terminal.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages to the files of the site."""
    for path, write in PAGES.items():
        # In the repository, a page of the reference says where else the same can be read.
        in_repository = files.get_file_from_path(path)
        if in_repository is not None:
            files.remove(in_repository)
        files.append(File.generated(config, path, content=write()))
    return files
