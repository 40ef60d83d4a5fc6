"""What a command shows of a result: on the terminal, in files and in a browser.

The terminal gets the blocks that the page of the result shows, as text that is wrapped at words.
Names of files, classes and columns come from the data. The terminal would interpret escape
sequences in them, and newlines would forge lines of output. No text is read as Rich's markup.
"""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from imgpipe.components.common.formatting import count, share
from imgpipe.components.report import blocks as show
from imgpipe.models.errors import ConfigError, ResourceError, printable
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.machine.system import has_display
from imgpipe.pipeline.command_line import command_process

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.text import Text

_STYLES = {
    "strong": "bold",
    "muted": "dim",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "sentence": "bold",
}
_NAME = 7  # least width of the names of figures
_WIDEST = 10_000  # characters of a line of a table that no terminal shows
#: A command in backticks, a command that ends its line, a setting, or a word; with the spaces
#: around it.
_PIECE = re.compile(r"\s*(?:`[^`]+`\S*|(?<![^\s])imgpipe [a-z-]+ .*|--set \S+|\S+)\s*")
#: What begins a line: a name and the spaces behind it, such as "  report   ".
_HEADING = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")
_DEEPEST = 1 / 3  # of the width: the deepest indentation of the lines after the first

#: Value of an option for a file that stands for standard output.
STANDARD_OUTPUT = "-"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # of a bucket or a web page


def show_result(
    blocks: Iterable[show.ResultBlock],
    content: Mapping[str, Any] | Sequence[Any],
    json_file: str | None,
) -> None:
    """Print a result, on standard error where standard output carries its JSON, and write that.

    Args:
        blocks: What is printed; see `print_blocks`.
        content: The JSON object or list.
        json_file: Value of `--json`; see `write_json`.
    """
    print_blocks(console_beside(json_file), blocks)
    write_json(content, json_file)


def print_blocks(console: Console, blocks: Iterable[show.ResultBlock]) -> None:
    """Print the blocks that are text."""
    for number, block in enumerate(blocks):
        if isinstance(block, show.Table):
            _print_table(console, block)
            continue
        if isinstance(block, show.Heading) and number:
            say(console, "")
        for line in _lines(block):
            say(console, line)


def _lines(block: show.ResultBlock) -> Iterator[Text]:
    """Yield the lines of a block; pictures and drawings have none, and a table has its own."""
    if isinstance(block, show.Heading):
        yield _text(block.words, "strong")
    elif isinstance(block, show.Sentence):
        yield _text(block.words, block.look)
    elif isinstance(block, show.Command):
        yield _text(block)
    elif isinstance(block, show.Listed):
        sign = "→ " if block.look == "ways" else ""
        for item in block.points:
            yield Text.assemble("  ", sign, _text(item))
    elif isinstance(block, show.Figures):
        yield from _figures(block)
    elif isinstance(block, show.Cards) and block.cards:  # the first is the worst
        _, lines = block.cards[0]
        yield Text.assemble("  ", Text("  ").join(filter(None, map(_text, lines))))
    elif isinstance(block, show.Folded):
        yield _text(block.summary)
        for inner in block.blocks:
            yield from _lines(inner)


def _figures(block: show.Figures) -> Iterator[Text]:
    """Yield a line for each figure, or one for all key figures."""
    rows = [(_text(name), _text(value)) for name, value in block.rows]
    if block.key and rows:
        yield Text(" · ").join(Text.assemble(name, " ", value) for name, value in rows)
        return
    width = max([_NAME, *(name.cell_len for name, _ in rows)])
    for name, value in rows:
        yield Text.assemble("  ", name, " " * (width - name.cell_len + 2), value)


def _print_table(console: Console, block: show.Table) -> None:
    """Print a table below its caption. Where no terminal shows it, no cell is wrapped."""
    table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    first_row = block.rows[0] if block.rows else block.columns
    for title, cell in zip(block.columns, first_row, strict=True):
        is_number = cell is None or isinstance(cell, int | float)
        justify: JustifyMethod = "right" if is_number else "left"
        table.add_column(_text(title), justify=justify, overflow="fold")
    for cells in filter(None, (*block.rows, block.total)):
        table.add_row(*map(_text, cells))
    if not console.is_terminal:
        unlimited = console.options.update(width=_WIDEST)
        table.width = Measurement.get(console, unlimited, table).maximum
    if block.caption:
        say(console, _text(block.caption, "muted"))
    console.print(table)


def _text(content: show.TableCell, look: str = "") -> Text:
    """Return words or a number as a text in a look, without links and pictures."""
    style = _STYLES.get(look, "")
    if content is None or isinstance(content, float):
        return Text(share(content), style)
    if isinstance(content, int):
        return Text(count(content), style)
    if isinstance(content, str):
        return Text(printable(content), style)
    if isinstance(content, show.Command | show.CommandLink):
        return Text(printable(content.text), style)
    if isinstance(content, show.Span):
        return Text.assemble(_text(content.text, content.look), style=style)
    if isinstance(content, show.MarkedCell):
        return _text(content.words, look)
    if isinstance(content, show.Link | show.Picture | show.Bar):
        return Text()
    return Text.assemble(*map(_text, content), style=style)


def new_console(stderr: bool = False) -> Console:
    """Return a console that prints texts as they are, without markup, highlighting and emoji.

    Args:
        stderr: Whether it writes to standard error instead of standard output.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(console: Console, words: str | Text) -> None:
    """Print a text, whose lines are wrapped at words where a terminal shows them.

    Args:
        console: Where it is printed.
        words: A text of which nothing is trusted, or one with styles that is printable.
    """
    from rich.text import Text

    text = Text(printable(words)) if isinstance(words, str) else words
    lines = text.split("\n", allow_blank=True)
    console.print(Text("\n").join(wrapped(line, console) for line in lines), soft_wrap=True)


def wrapped(line: Text, console: Console) -> Text:
    """Wrap a line at words if a terminal shows it, below the text behind its heading.

    A command or a path is moved to the next line as a whole, and the terminal breaks it where it
    is longer than a line, so that it can be copied. Of the pieces that no line can hold, only a
    command gets a line of its own: a list of commands has them below each other then. The line
    has no newline.
    """
    from rich.cells import cell_len
    from rich.text import Text

    if not console.is_terminal:
        return line
    indent = _indent(line.plain, console.width)
    breaks: list[int] = []
    used = 0
    for start, piece in _pieces(line.plain):
        width = cell_len(piece.rstrip())
        fits_a_line = indent + width <= console.width
        is_whole = fits_a_line or piece.startswith("imgpipe ")
        if used and used + width > console.width and is_whole:
            breaks.append(start)
            used = indent
        used += cell_len(piece)
    pieces = list(line.divide(breaks))
    for part in pieces[:-1]:
        part.rstrip()
    return Text("\n" + " " * indent).join(pieces)


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yield where each piece that stays whole begins, and the piece with the spaces behind it."""
    heading = _HEADING.match(text)
    begin = heading.end() if heading else len(text) - len(text.lstrip())
    if begin:
        yield 0, text[:begin]
    if text[begin:].startswith("/"):  # a path, which may contain spaces
        yield begin, text[begin:]
        return
    for match in _PIECE.finditer(text, begin):
        yield match.start(), match.group()


def _indent(text: str, width: int) -> int:
    """Return how far the lines after the first are indented."""
    heading = _HEADING.match(text)
    if heading and heading.end() <= width * _DEEPEST:
        return heading.end()
    beginning = re.match(r" *(?:- )?", text)
    return beginning.end() if beginning else 0


def show_page(address: str, console: Console) -> None:
    """Open the address of a page in a browser; say so when there is none."""
    import webbrowser

    # Without a display, `webbrowser` would start a browser in the terminal.
    if not has_display() or not webbrowser.open(address):
        say(console, "No browser was found here. Open the page in one.")


def console_beside(json_file: str | None) -> Console:
    """Return a console for messages, on standard error if standard output carries the JSON."""
    return new_console(stderr=json_file == STANDARD_OUTPUT)


def write_json(content: Mapping[str, Any] | Sequence[Any], json_file: str | None) -> None:
    """Write the JSON object or list to the file that `--json` names, if there is one.

    Args:
        content: The JSON object or list.
        json_file: Value of `--json`: a path, `-` for standard output, or None.

    Raises:
        ResourceError: It cannot be written. A closed pipe on standard output is not an error.
    """
    if not json_file:
        return
    # JSON must be UTF-8, of which ASCII is a part in any terminal's encoding.
    plain = json_file == STANDARD_OUTPUT and sys.stdout.encoding.lower() != "utf-8"
    _hand_over(json.dumps(content, indent=1, ensure_ascii=plain) + "\n", json_file, "--json ")


def write_csv(text: str, csv_file: str | None) -> None:
    """Write a table to the file that `--csv` names, if there is one; see `write_json`."""
    # The mark at the start tells spreadsheets that the file is UTF-8.
    mark = "" if csv_file == STANDARD_OUTPUT else "\ufeff"
    _hand_over(f"{mark}{text}", csv_file, "--csv ")


def _hand_over(text: str, file: str | None, option: str) -> None:
    """Write to standard output, where a reader that has gone is not an error, or to a file."""
    if not file:
        return
    if file != STANDARD_OUTPUT:
        write(Path(file), text, option)
        return
    sys.stdout.write(text)
    sys.stdout.flush()
    error = command_process.failure(sys.stdout)
    if error is not None and error.errno != errno.EPIPE:
        raise ResourceError(f"cannot write to standard output: {error.strerror}.")


def local_file(given: str | Path, option: str) -> Path:
    """Return the path of a file to write, unless it is an address.

    Args:
        given: Value of the option; a `Path` has one slash of the two of `gs://`.
        option: The option that named it and a space, for the message.

    Raises:
        ConfigError: It is an address, which Python would take for a folder `gs:`.
    """
    if _ADDRESS.match(str(given)):
        raise ConfigError(
            f"{option}{given} is an address. Name a file on this machine, and copy it there."
        )
    return Path(given)


def write(path: Path, content: str | bytes, option: str = "") -> None:
    """Write a file that a person asked for, atomically.

    Args:
        path: Path of the file.
        content: Its content.
        option: The option that named it and a space, for the message.

    Raises:
        ConfigError: It is an address.
        ResourceError: The file cannot be written.
    """
    try:
        atomic_write(local_file(path, option), content)
    except OSError as error:
        raise ResourceError(f"cannot write {option}{path}: {error.strerror or error}.") from None
