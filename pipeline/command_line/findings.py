"""Prints findings, in the same way for a check and a run: see `models.finding`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from imgpipe.components.image_filter.findings import not_used
from imgpipe.models.finding import Finding
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

#: Words and colours by what happens to the files.
_FATES = {
    "rejected": ("rejected", "red"),
    "repaired": ("repaired", "green"),
    "warned": ("warned", "yellow"),
    "not_used": ("not used", "yellow"),
    "noted": ("noted", "dim"),
}


def print_rows(console: Console, findings: Iterable[Finding]) -> None:
    """Print a line for each finding that has examples: how many, the first one, what to do."""
    for finding in findings:
        if not finding["examples"]:
            continue
        first = finding["examples"][0]
        example = ": ".join(filter(None, (first["path"], first["detail"])))
        word, style = _FATES[finding["fate"]]
        columns = f"[{style}]{word:<9}[/] {escape(finding['title']):<32} {finding['count']:>8,}"
        console.print(f"{columns}  [dim]{escape(example)}[/]")
        for way in finding["remedies"]:
            console.print(f"          → {escape(way)}")


def print_deciding(console: Console, findings: Sequence[Finding]) -> None:
    """Print what belongs above the verdict: what decides, and what was not used."""
    for finding in findings:
        if finding["decides"] and finding["fate"] != "not_used":
            _print_sentence(console, "[yellow]note[/]     ", finding)
    unused = not_used(findings)
    if unused:
        console.print(f"  [yellow]not used[/] {escape(unused)}")


def print_notes(console: Console, findings: Iterable[Finding]) -> None:
    """Print the sentences of what decides nothing, with what to do."""
    for finding in findings:
        if finding["fate"] == "noted" and not finding["decides"]:
            _print_sentence(console, "note     ", finding)


def _print_sentence(console: Console, heading: str, finding: Finding) -> None:
    """Print the sentence of a finding behind a heading, and what to do below; nothing if none."""
    if finding["sentence"]:
        console.print(f"  {heading}{escape(finding['sentence'])}")
        for way in finding["remedies"]:
            console.print(f"           → {escape(way)}")
