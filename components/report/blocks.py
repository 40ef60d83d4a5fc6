"""The blocks that a result is shown as: sentences, tables, pictures, curves and commands.

`page` draws them as HTML, and `pipeline.command_line.blocks` prints them on the terminal, without
the pictures. Texts are plain: whoever draws a block escapes them, and formats its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import markupsafe

    from imgpipe.components.report.pictures.image_map import ImageMap


@dataclass(frozen=True)
class Span:
    """A part of a text with a look. A `name` and a `path` come from the data."""

    text: str
    look: Literal["strong", "muted", "good", "bad", "warn", "unseen", "name", "path", "code"]


@dataclass(frozen=True)
class Link:
    """A link to a section of the page."""

    text: str
    section: str


@dataclass(frozen=True)
class Command:
    """A command, or other lines that can be copied. They break between their words only."""

    text: str


@dataclass(frozen=True)
class Picture:
    """An image of the data, which a click enlarges.

    Attributes:
        key: Its content hash, or another key by which the page finds it.
        title: What it shows, with the name of its file.
        framed: Whether a frame marks it among others.
        many: Whether it is one of many in rows and tables, which are enlarged less if need be.
        optional: Whether nothing is shown in its place if the page has no image for its key.
    """

    key: str
    title: str
    framed: bool = False
    many: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Bar:
    """A share from 0 to 1 with its interval, and the share that is asked for if there is one."""

    share: float
    low: float
    high: float
    limit: float | None


Inline = str | Span | Link | Command | Picture | Bar
#: A text, or its parts.
Text = Inline | Sequence[Inline]


@dataclass(frozen=True)
class MarkedCell:
    """A cell of a table in red, or coloured as strongly as `strength`, which is from 0 to 1."""

    words: Text
    look: Literal["right", "wrong", "bad"]
    strength: float = 0.0


#: A cell of a table: words, a count, a share, or None for an unknown number.
TableCell = Text | MarkedCell | int | float | None


@dataclass(frozen=True)
class Table:
    """A table, whose first column names its rows.

    Attributes:
        title: What it shows, for those who do not see the headings around it.
        columns: Titles of its columns.
        rows: A cell for each column.
        total: The last row, which sums up the others; empty if there is none.
        caption: Sentence above it; "" for none.
        look: "wide" as wide as the page, "bars" a bar in each row, "matrix" labels by answers.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    total: Sequence[TableCell] = ()
    caption: str = ""
    look: Literal["", "wide", "bars", "matrix"] = ""


@dataclass(frozen=True)
class Sentence:
    """A paragraph."""

    words: Text
    look: Literal["", "muted", "sentence"] = ""


@dataclass(frozen=True)
class Heading:
    """A heading below that of the section."""

    words: Text


@dataclass(frozen=True)
class Listed:
    """A list: steps to take, what rules say, or a plain one."""

    items: Sequence[Text]
    look: Literal["", "steps", "rulings"] = ""


@dataclass(frozen=True)
class Figures:
    """Names with their values; the key figures are large."""

    rows: Sequence[tuple[str, Text]]
    key: bool = False


#: Pictures of an image, and lines of text beside them.
Card = tuple[Sequence[Picture], Sequence[Text]]


@dataclass(frozen=True)
class Cards:
    """Images with texts, side by side; wide ones hold a sentence or two pictures."""

    cards: Sequence[Card]
    wide: bool = False


@dataclass(frozen=True)
class Photos:
    """A row of images behind its heading, if it has one."""

    pictures: Sequence[Picture]
    heading: Text = ""


@dataclass(frozen=True)
class Curves:
    """Drawings side by side, each with its caption."""

    drawings: Sequence[tuple[markupsafe.Markup, Text]]


@dataclass(frozen=True)
class Legend:
    """Colours or names of lines in `report.css`, each with what it means in a drawing."""

    entries: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Map:
    """The map of the images, with the colours of the classes by their number."""

    image_map: ImageMap
    colours: Mapping[int, str]
    title: str


@dataclass(frozen=True)
class Folded:
    """Blocks below a summary that opens and closes them."""

    summary: Text
    blocks: Sequence[ResultBlock]
    is_open: bool = False


_TextBlock = Sentence | Heading | Listed | Figures | Table | Command | Folded
ResultBlock = _TextBlock | Cards | Photos | Curves | Legend | Map


def capitalised(text: str) -> str:
    """Return a text whose first letter is a capital; the others stay as they are."""
    return text[:1].upper() + text[1:]


def pictures(item: object) -> Iterator[Picture]:
    """Yield the pictures in blocks and their parts, in their order."""
    if isinstance(item, Picture):
        yield item
    elif is_dataclass(item):
        for field in fields(item):
            yield from pictures(getattr(item, field.name))
    elif isinstance(item, Sequence) and not isinstance(item, str):
        for part in item:
            yield from pictures(part)
