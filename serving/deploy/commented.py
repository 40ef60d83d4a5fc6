"""YAML with comments, which PyYAML does not write.

A comment is a key of the mapping, in front of the key that it explains: ``note("…"): None``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_LINE = re.compile(r"^(?P<indent>[ ]*(?:- )?)'#:(?P<number>[0-9]+)': null$")
_WIDTH = 90


class _Note(str):
    """The text of a comment."""


def note(text: str) -> str:
    """Return the key of a comment. One mapping cannot contain the same comment twice."""
    return _Note(text)


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # indent the items of a list


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(documents: Sequence[Mapping[str, Any]], head: str) -> str:
    """Return the YAML of ``documents`` with their comments, and ``head`` as a comment on top."""
    parts = []
    for document in documents:
        notes: list[str] = []
        text = yaml.dump(
            _numbered(document, notes),
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            width=10_000,  # do not fold long flags
        )
        parts.append("".join(_with_note(line, notes) for line in text.splitlines(keepends=True)))
    return _comment(head, "") + "---\n".join(parts)


def plain(value: Any) -> Any:
    """Return ``value`` without its comments."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if not isinstance(key, _Note)}
    return [plain(item) for item in value] if isinstance(value, list) else value


def _numbered(value: Any, notes: list[str]) -> Any:
    """Move each comment into ``notes`` and replace its key by its number.

    PyYAML writes long keys in another form, so the comments themselves cannot be the keys.
    """
    if isinstance(value, Mapping):
        result = {}
        for key, item in value.items():
            if isinstance(key, _Note):
                notes.append(str(key))
                key = f"#:{len(notes) - 1}"
            result[key] = _numbered(item, notes)
        return result
    return [_numbered(item, notes) for item in value] if isinstance(value, list) else value


def _with_note(line: str, notes: Sequence[str]) -> str:
    match = _LINE.match(line)
    return _comment(notes[int(match["number"])], match["indent"]) if match else line


def _comment(text: str, indent: str) -> str:
    rest = " " * len(indent)
    lines = textwrap.wrap(text, _WIDTH - len(indent))
    return "".join(
        f"{indent if number == 0 else rest}# {line}\n" for number, line in enumerate(lines)
    )
