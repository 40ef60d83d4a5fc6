"""The blocks that a result is shown as, and the sections of a page that are made of them.

Blocks are sentences, tables, pictures, curves and commands. `page` draws them as HTML, and
`pipeline.command_line.printing` prints them on the terminal, without the pictures. Texts are plain:
whoever draws a block escapes them, and formats its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from imgpipe.components.data_gate import rules
from imgpipe.models.finding import UNUSED, Finding

if TYPE_CHECKING:
    import markupsafe

    from imgpipe.components.run_record.result import Result
    from imgpipe.components.run_record.shown_images import ImageMap

#: How a part of a text is drawn; a `name` and a `path` come from the data.
SpanLook = Literal["", "strong", "muted", "good", "bad", "warn", "unseen", "name", "path", "code"]


class Span(NamedTuple):
    """A part of a text with a look."""

    text: str
    look: SpanLook


class Link(NamedTuple):
    """A link to a section of the page."""

    text: str
    section: str


class Command(NamedTuple):
    """A command, or other lines that can be copied. They break between their words only."""

    text: str


class CommandLink(NamedTuple):
    """A text of which a click shows the command that leads on."""

    text: str
    title: str  # what the command does
    command: str


class Picture(NamedTuple):
    """An image of the data, which a click enlarges."""

    key: str  # content hash, or another key by which the page finds the image
    path: str  # name of its file
    notes: Sequence[str] = ()  # what is known of it, a few words each
    framed: bool = False
    many: bool = False  # one of many, which are enlarged less if there are too many
    optional: bool = False  # without an image, nothing stands in its place
    caption: str = ""  # what stands below it

    @property
    def title(self) -> str:
        """What it shows, with the name of its file."""
        return titled(self.path, self.notes)


class Bar(NamedTuple):
    """A share from 0 to 1 with its interval, and the share that is asked for if there is one."""

    share: float
    low: float
    high: float
    limit: float | None


def titled(path: str, notes: Iterable[str]) -> str:
    """Return what is said of an image; what is said in several places stands once."""
    return ": ".join(filter(None, (path, ", ".join(dict.fromkeys(notes)))))


Inline = str | Span | Link | Command | CommandLink | Picture | Bar
#: A text, or its parts.
Text = Inline | Sequence[Inline]


class MarkedCell(NamedTuple):
    """A cell of a table in red, or coloured as strongly as `strength`, which is from 0 to 1."""

    words: Text
    look: Literal["right", "wrong", "bad"]
    strength: float = 0.0


#: A cell of a table: words, a count, a share, or None for an unknown number.
TableCell = Text | MarkedCell | int | float | None


class Table(NamedTuple):
    """A table, whose first column names its rows."""

    title: str  # for those who do not see the headings around it
    columns: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    total: Sequence[TableCell] = ()  # the last row, which sums up the others
    caption: str = ""
    look: Literal["", "wide", "bars", "matrix"] = ""


class Sentence(NamedTuple):
    """A paragraph."""

    words: Text
    look: Literal["", "muted", "sentence"] = ""


class Heading(NamedTuple):
    """A heading below that of the section."""

    words: Text


class Listed(NamedTuple):
    """A list: steps to take, what rules say, ways out of a finding, or a plain one."""

    points: Sequence[Text]
    look: Literal["", "steps", "rulings", "ways"] = ""


#: A name in front of its value.
NamedText = tuple[str | Span, Text]


class Figures(NamedTuple):
    """Names with their values; the key figures are large."""

    rows: Sequence[NamedText]
    key: bool = False


#: Pictures of an image, and lines of text beside them.
Card = tuple[Sequence[Picture], Sequence[Text]]


class Cards(NamedTuple):
    """Images with texts, side by side; large ones hold a sentence or two pictures."""

    cards: Sequence[Card]
    large: bool = False


class Photos(NamedTuple):
    """A row of images behind its heading, if it has one."""

    pictures: Sequence[Picture]
    heading: Text = ""


class Curves(NamedTuple):
    """Drawings side by side, each with its caption."""

    drawings: Sequence[tuple[markupsafe.Markup, Text]]


class Legend(NamedTuple):
    """Colours or names of lines in `report.css`, each with what it means in a drawing."""

    entries: Sequence[tuple[str, str]]


class Map(NamedTuple):
    """The map of the images, with the colours of the classes by their number."""

    image_map: ImageMap
    colours: Mapping[int, str]
    title: str


class Folded(NamedTuple):
    """Blocks below a summary that opens and closes them."""

    summary: Text
    blocks: Sequence[ResultBlock]
    is_open: bool = False


_TextBlock = Sentence | Heading | Listed | Figures | Table | Command | Folded
ResultBlock = _TextBlock | Cards | Photos | Curves | Legend | Map


def capitalised(text: str) -> str:
    """Return a text whose first letter is a capital; the others stay as they are."""
    return text[:1].upper() + text[1:]


def pictures(parts: object) -> Iterator[Picture]:
    """Yield the pictures in blocks and their parts, in their order."""
    if isinstance(parts, Picture):
        yield parts
    elif isinstance(parts, list | tuple):
        for part in parts:
            yield from pictures(part)


def data_reasons(result: Result) -> list[str]:
    """Return DataGate's reasons for refusing the data as sentences, grouped when there are many."""
    gate = result["data_gate"]
    return rules.first_sentences(gate["reasons"]) if gate is not None else []


#: Yields what a section shows. The page has no section without content.
Build = Callable[["Result"], Iterable[ResultBlock]]


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        id: Its anchor.
        order: Sections appear on the page in ascending order.
        numbers: Whether it lies in the closed part "Numbers", below the pictures.
    """

    id: str
    title: str
    build: Build
    order: int = 0
    numbers: bool = False


def section(
    anchor: str, title: str, order: int = 0, numbers: bool = False
) -> Callable[[Build], Section]:
    """Return a decorator that makes a section of the function that builds it."""
    return lambda build: Section(anchor, title, build, order, numbers)


def said(findings: Iterable[Finding]) -> Iterator[Sentence | Listed]:
    """Yield the findings that are sentences, each with what to do below it."""
    for finding in findings:
        if finding["sentence"]:
            not_used = finding["fate"] in UNUSED
            text = f"Not used: {finding['sentence']}" if not_used else finding["sentence"]
            yield Sentence(f"{capitalised(text)}.", "" if finding["decides"] else "muted")
            yield Listed(finding["remedies"], "ways")
