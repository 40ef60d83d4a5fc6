"""What all tables of images share: their columns, their rows, and their refusal.

Lists of files, tables of pixels, TFRecord files and TensorFlow Datasets find their columns or
features here, so that all of them know the same words, and `add_rows` makes items of their rows. A
table that is not as `docs/data.md` says is refused in one form, and `docs/how-to/lists.md` has
short programs that write one that is read.
"""

from __future__ import annotations

import collections
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_row import TWO_GROUPS, TWO_LABELS, TWO_SPLITS, Problem
from imgpipe.components.common.splits import are_splits, split_of, split_word
from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.example_gen.sources.images import Item, Listing
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings

ROLES: Final = ("path", "label", "split", "group")
#: Usual names of columns and features by role, the surest first. Case and everything that is
#: neither a letter nor a digit are ignored: "Class Name", "class_name" and "ClassName" are one.
_USUAL = {
    "name": (
        *("path", "filepath", "filename", "file", "filepaths", "filenames", "files"),
        *("imagepath", "imgpath", "imagefile", "imagefilename", "imagename", "imgname"),
    ),
    "image": (
        *("imagebytes", "imageencoded", "image", "encodedimage", "imageraw"),
        *("jpeg", "jpg", "png", "imagedata", "img", "encoded", "bytes"),
    ),
    "label": (
        *("label", "labels", "class", "classname", "imageclasstext", "imageclasslabel"),
        *("imagelabel", "classlabel", "labelname", "classid", "category", "categoryname"),
        *("target", "y"),
    ),
    "split": ("split", "partition"),
    "group": ("group", "groupid", "groups"),
}
_USUAL["path"] = (*_USUAL["name"], "image", "img", "imageid", "imgid", "id")
#: Setting that names the column of a role.
_SETTINGS = {
    "path": "image_column",
    "image": "image_column",
    "label": "label_column",
    "group": "group_column",
}
_COORDINATES = ("x", "y")  # a column y beside x is none of labels
_REASONS = (TWO_SPLITS, TWO_GROUPS, TWO_LABELS)
#: Words for an empty cell. "none" and "na" in lower case may be classes: no gesture, a syllable.
_EMPTY = frozenset(
    {"None", "NA", "", "nan", "-nan", "NaN", "-NaN", "null", "NULL", "n/a", "N/A", "<NA>", "#N/A"}
)
_ONE_LABEL = re.compile(r"^\[\s*(?:'([^']*)'|\"([^\"]*)\"|([^'\",\s]*))\s*\]$")
_SEVERAL_LABELS = re.compile(r"\w\s*[|;]|^\[.*[,\s].*\]$", re.DOTALL)
_SPLIT_VALUES = 50  # most words in a column of splits and folds
_SHOWN = 12  # columns and cells that a message shows
_LONGEST_CELL = 40  # characters of a cell that a message shows
#: Where a message sends a person whose table is not read.
GUIDE: Final = "docs/how-to/lists.md has short pandas programs that write a table that is read"


class SourceRow(NamedTuple):
    """What a row says of an image, in the texts of its cells; "" for nothing."""

    place: str  # for messages, such as "row 7"
    item: Item  # without label, split and group
    label: str = ""
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class SourceTable:
    """The rows of one file, or of one part of a data set.

    Attributes:
        name: Its name, for messages.
        rows: Its rows.
        split: Split of the rows that name none; None if it is to be assigned.
    """

    name: str
    rows: Sequence[SourceRow]
    split: str | None = None


def is_usual(name: str, role: str) -> bool:
    """Whether a column has a usual name for its role."""
    return _word(name) in _USUAL[role]


def _word(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def find_columns(
    where: str, titles: Sequence[str], options: DataSettings, roles: Iterable[str]
) -> dict[str, int]:
    """Return the index of the column or feature of each role, -1 for none.

    A column has one role: what a setting names is not taken for another role by its usual name.

    Args:
        where: The source, for messages.
        titles: Titles of the columns; empty where a table has no header.
        options: Settings of the source, which may name columns by title or by index from 0.
        roles: The roles.

    Raises:
        ConfigError: A setting names a column that is not there.
    """
    words = [_word(title) for title in titles]
    columns = {}
    for role in roles:
        wanted = getattr(options, _SETTINGS[role]) if role in _SETTINGS else ""
        columns[role] = _wanted(where, titles, wanted) if wanted else -1
    for role, column in columns.items():
        if column < 0:
            free = [word if n not in columns.values() else "" for n, word in enumerate(words)]
            if set(_COORDINATES) <= set(free):
                free[free.index("y")] = ""
            usual = (free.index(word) for word in _USUAL[role] if word in free)
            columns[role] = next(usual, -1)
    return columns


def _wanted(where: str, titles: Sequence[str], wanted: str) -> int:
    """Return the index of the column that a setting names."""
    words = [_word(title) for title in titles]
    if wanted in titles:
        return titles.index(wanted)
    if wanted.isdecimal() and (not titles or int(wanted) < len(titles)):
        return int(wanted)
    if words.count(_word(wanted)) == 1:
        return words.index(_word(wanted))
    others = f"; found {join_names(titles, _SHOWN)}" if titles else ""
    raise ConfigError(f"data source {where!r} has no column or feature {wanted!r}{others}")


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, with a point or a comma."""
    try:
        float(cell.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def cell_text(cell: str, classes: Collection[str] = ()) -> str:
    """Return the label, split or group in a cell, "" for none.

    Spreadsheets add decimals ("3.0" becomes "3"), and programs write words for an empty cell.

    Args:
        cell: The cell.
        classes: Names of classes, which are never empty.
    """
    cell = cell.strip()
    if cell in classes:
        return cell
    if cell.startswith("["):  # a list of one label
        cell = _ONE_LABEL.sub(r"\1\2\3", cell)
    if cell in _EMPTY:
        return ""
    return cell[:-2] if cell.endswith(".0") and cell[:-2].isdecimal() else cell


def add_rows(listing: Listing, tables: Sequence[SourceTable], options: DataSettings) -> None:
    """Add the items of rows to a listing, with a problem where rows contradict each other.

    Raises:
        ConfigError: A word names no split, or a cell lists several labels.
    """
    said: dict[Item, list[tuple[str, tuple[str, ...]]]] = collections.defaultdict(list)
    empty: collections.Counter[str] = collections.Counter()
    for table in tables:
        of_table = f" of {table.name}" if len(tables) > 1 else ""
        for row in table.rows:
            label = cell_text(row.label, options.classes)
            split = _split(row, table)
            said[row.item].append((f"{row.place}{of_table}", (split, cell_text(row.group), label)))
            if row.label and not label:
                empty[row.label] += 1
    for word, count in empty.items():
        detail = f"{plural(count, 'row says', 'rows say')} {word!r}, which is read as no label"
        way = f"if {word!r} is a class, list all classes in data.classes"
        listing.notes.add("empty_label", word, detail, count, ways=[way])
    for item, rows in said.items():
        if len(rows) > 1:
            places = join_names([place for place, _ in rows])
            listing.notes.add("listed_twice", item.path, f"in {places}")
    labels = {cells[-1] for rows in said.values() for _, cells in rows} - {""}
    _require_one_label(listing.source, labels - {*options.classes, *listing.classes})
    listing.classes |= labels
    listing.items += [_with_cells(item, rows) for item, rows in said.items()]


def _split(row: SourceRow, table: SourceTable) -> str:
    """Return the split of a row; tables of Google AutoML say that it is to be assigned."""
    text = cell_text(row.split)
    if not text or text.upper() == "UNASSIGNED":
        return table.split or ""
    return split_word(text, f"{table.name!r}, {row.place}")


def _with_cells(item: Item, rows: Sequence[tuple[str, tuple[str, ...]]]) -> Item:
    """Return the item of an image, with a problem if its rows contradict each other."""
    problem = item.problem
    values: list[str | None] = []
    # The label comes last, because a person may correct it, and the other problems would remain.
    for number, reason in enumerate(_REASONS):
        places: dict[str, str] = {}
        for place, cells in rows:
            places.setdefault(cells[number], place)
        places.pop("", None)
        values.append(next(iter(places)) if len(places) == 1 else None)
        if len(places) > 1 and problem is None:
            in_rows = (f"{value!r} ({place})" for value, place in places.items())
            problem = Problem(reason, f"listed as {' and '.join(in_rows)}")
    split, group, label = values
    return Item(item.path, label, split, group=group, problem=problem, part=item.part)


def _require_one_label(where: str, labels: Iterable[str]) -> None:
    """Refuse cells that list several labels."""
    several = sorted(filter(_SEVERAL_LABELS.search, labels))
    if several:
        raise ConfigError(
            f"data source {where!r} gives several labels to an image: {join_names(several)}. "
            "Expected one label in each row, because the answer of the model is one class; "
            f"{GUIDE}. Labels that are the name of one class nevertheless go in data.classes"
        )


def with_splits_of_names(source: str, tables: Sequence[SourceTable]) -> list[SourceTable]:
    """Return the tables of files with the splits that the names of several files say.

    The name of a file that is the whole source need not: crash_test_photos.tfrecord. Of several,
    all have to that hold rows without a split, or none, because such rows would count as train.

    Raises:
        ConfigError: Some names say a split, and others do not.
    """
    unsaid = [table.name for table in tables if not all(row.split for row in table.rows)]
    given = {name: split_of(name) if len(tables) > 1 else None for name in unsaid}
    named = [f"{name} ({split})" for name, split in given.items() if split]
    others = [name for name in unsaid if not given[name]]
    if named and others:
        raise ConfigError(
            f"data source {source!r}: some files name a split ({join_names(named)}) and others "
            f"do not ({join_names(others)}). "
            "Expected a word such as train, validation or test in the name of each file, or in "
            "none. Rename the files, or give the split in a column or feature named split."
        )
    return [SourceTable(table.name, table.rows, given.get(table.name)) for table in tables]


def refuse_splits(where: str, titles: Sequence[str], columns: Mapping[int, Sequence[str]]) -> None:
    """Refuse a table in which a column that nothing reads names splits and is not called so.

    The number of a fold counts as train, as in a column of 0, 1, 2 and test.

    Raises:
        ConfigError: All cells of a column name splits, train among them.
    """
    for number, cells in columns.items():
        words = sorted({cell for cell in set(cells) if cell.upper() != "UNASSIGNED"} - {""})
        splits = {names.TRAIN if word.isdecimal() else word for word in words[: _SPLIT_VALUES + 1]}
        if len(words) <= _SPLIT_VALUES and are_splits(splits):
            raise not_read(
                where,
                f"the column {titles[number]} names splits ({join_names(words, 5)}): "
                "call it split, and write train, validation or test into each cell",
            )


def note_unread(notes: Notes, titles: Sequence[str], columns: Mapping[int, Sequence[str]]) -> None:
    """Note columns whose cells repeat, and which nothing reads, with what they may be."""
    for number, cells in columns.items():
        values = sorted({cell for cell in cells if cell})
        if 1 < len(values) <= len(cells) / 2:
            detail = f"{len(values):,} values ({join_names(values, 3)})"
            column = shlex.quote(titles[number])
            way = (
                f"if it says which images belong together: --set data.group_column={column}; if it "
                f"is the class: --set data.label_column={column}; if it says which images are held "
                "out: write train, validation or test into each cell, and call it split"
            )
            notes.add("unused_column", titles[number], detail, ways=[way])


def not_read(
    where: str, why: str | Exception, titles: Sequence[str] = (), first: Sequence[str] = ()
) -> ConfigError:
    """Return the refusal of a table, with its columns and its first row where they are the reason.

    `why` may be what its reader raised.
    """
    if isinstance(why, UnicodeDecodeError):
        why = f"it is not UTF-8 text (byte {why.start}): write it again in UTF-8"
    elif isinstance(why, OSError):
        why = f"it cannot be opened: {why.strerror or why}"
    titles, first = ([_shortened(cell) for cell in cells] for cells in (titles, first))
    columns = f". Its columns are {join_names(titles, _SHOWN)}" if titles else ""
    row = f"; its first row is {join_names(first, _SHOWN)}" if first else ""
    return ConfigError(
        f"data source {where!r} is not read: {str(why).strip()}{columns}{row}. {GUIDE}"
    )


def _shortened(cell: str) -> str:
    return cell if len(cell) <= _LONGEST_CELL else f"{cell[:_LONGEST_CELL]}…"
