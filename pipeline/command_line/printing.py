"""Prints the blocks of a result, findings among them, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from imgpipe.components.common.formatting import count, share
from imgpipe.components.image_filter.findings import not_used
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import Figures, Span
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.report.blocks import NamedText, SpanLook
    from imgpipe.models.finding import Finding


_STYLES = {
    "strong": "bold",
    "muted": "dim",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "sentence": "bold",
}
_NAME = 8  # least width of the names of figures
_WIDEST = 10_000  # characters of a line of a table that no terminal shows


def print_blocks(console: Console, blocks: Iterable[show.ResultBlock]) -> None:
    """Print the blocks that are text."""
    for number, block in enumerate(blocks):
        if isinstance(block, show.Heading):
            above = "\n" if number else ""
            console.print(f"{above}[bold]{_markup(block.words)}[/]")
        elif isinstance(block, show.Sentence):
            console.print(f"[{_STYLES.get(block.look, 'default')}]{_markup(block.words)}[/]")
        elif isinstance(block, show.Listed):
            for item in block.points:
                console.print(f"  {_markup(item)}")
        elif isinstance(block, show.Figures):
            lengths = [len(name if isinstance(name, str) else name.text) for name, _ in block.rows]
            for (name, value), length in zip(block.rows, lengths, strict=True):
                space = " " * (max([_NAME, *lengths]) - length)
                console.print(f"  {_markup(name)}{space} {_markup(value)}")
        elif isinstance(block, show.Table):
            _print_table(console, block)


def _print_table(console: Console, block: show.Table) -> None:
    """Print a table below its caption. Where no terminal shows it, no cell is wrapped."""
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    first_row = block.rows[0] if block.rows else block.columns
    for title, cell in zip(block.columns, first_row, strict=True):
        is_number = cell is None or isinstance(cell, int | float)
        table.add_column(escape(title), justify="right" if is_number else "left")
    for cells in filter(None, (*block.rows, block.total)):
        table.add_row(*map(_markup, cells))
    if not console.is_terminal:
        unlimited = console.options.update(width=_WIDEST)
        table.width = Measurement.get(console, unlimited, table).maximum
    if block.caption:
        console.print(f"[dim]{escape(block.caption)}[/]")
    console.print(table)


def _markup(content: show.TableCell) -> str:
    """Return words or a number as Rich's markup."""
    if content is None or isinstance(content, float):
        return share(content)
    if isinstance(content, int):
        return count(content)
    if isinstance(content, str):
        return escape(content)
    if isinstance(content, show.Command):
        return escape(content.text)
    if isinstance(content, show.Span):
        text = escape(content.text)
        return f"[{_STYLES[content.look]}]{text}[/]" if content.look in _STYLES else text
    if isinstance(content, show.MarkedCell):
        return _markup(content.words)
    if isinstance(content, show.Link | show.Picture | show.Bar):
        return ""
    return "".join(map(_markup, content))


#: Words and looks by what happens to the files.
_FATES: Mapping[str, Span] = {
    "rejected": Span("rejected", "bad"),
    "repaired": Span("repaired", "good"),
    "warned": Span("warned", "warn"),
    "not_used": Span("not used", "warn"),
    "noted": Span("noted", "muted"),
}


def listed(findings: Iterable[Finding]) -> Figures:
    """Return each finding that has examples: how many, the first one, what to do."""
    rows: list[NamedText] = []
    for finding in findings:
        if finding["examples"]:
            first = finding["examples"][0]
            example = ": ".join(filter(None, (first["path"], first["detail"])))
            counted = f"{finding['title']:<32} {finding['count']:>8,}  "
            rows.append((_FATES[finding["fate"]], (counted, Span(example, "muted"))))
            rows += _ways(finding)
    return Figures(rows)


def deciding(findings: Sequence[Finding]) -> Figures:
    """Return what belongs above the verdict: what decides, and what was not used."""
    used = [finding for finding in findings if finding["decides"] and finding["fate"] != "not_used"]
    rows = [*_sentences(used, "warn")]
    unused = not_used(findings)
    return Figures([*rows, (_FATES["not_used"], unused)] if unused else rows)


def notes(findings: Iterable[Finding]) -> Figures:
    """Return the sentences of what decides nothing, with what to do."""
    noted = (finding for finding in findings if finding["fate"] == "noted")
    return Figures([*_sentences((finding for finding in noted if not finding["decides"]), "")])


def _sentences(findings: Iterable[Finding], look: SpanLook) -> Iterator[NamedText]:
    for finding in findings:
        if finding["sentence"]:
            yield Span("note", look), finding["sentence"]
            yield from _ways(finding)


def _ways(finding: Finding) -> Iterator[NamedText]:
    return (("", f"→ {way}") for way in finding["remedies"])
