"""Hooks of MkDocs: pages of the site that are written elsewhere in the repository.

MkDocs calls the functions whose names begin with ``on_``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parent.parent.parent
#: Pages that are files of the repository's root, by their path below docs/.
_PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}


def _from_root(name: str) -> str:
    """Return a file of the repository's root with its links relative to docs/."""
    text = (_ROOT / name).read_text("utf-8")
    return text.replace("](docs/", "](").replace("](CHANGELOG.md", "](changelog.md")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages to the files of the site."""
    for path, name in _PAGES.items():
        files.append(File.generated(config, path, content=_from_root(name)))
    return files
