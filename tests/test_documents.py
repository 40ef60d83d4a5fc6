"""The documents name files and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from imgpipe.pipeline.application import app

_ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]


def _commands(group: object, prefix: str = "imgpipe") -> set[str]:
    found = {prefix}
    for name, command in getattr(group, "commands", {}).items():
        found |= _commands(command, f"{prefix} {name}")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(document: Path) -> None:
    known = _commands(typer.main.get_command(app))
    named = re.findall(r"(?:^|`)(imgpipe(?: [a-z]+)?)\b", document.read_text("utf-8"), flags=re.M)
    assert {name for name in named if name.count(" ")} <= known


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\(docs/([a-z]+\.md)\)", DOCUMENTS[0].read_text(encoding="utf-8")))
    assert {page.name for page in DOCUMENTS[1:]} == linked
