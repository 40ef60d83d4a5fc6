"""A list of files as a source: a table of text or JSON Lines, and where its files are.

A list may leave out the endings of files, or have others. Folders are walked once, and only when a
file is not where the list says. A row whose path leads out of the folder is an item that is not
read.
"""

from __future__ import annotations

import collections
import csv
import io
import itertools
import json
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.image_file.file_names import is_image, without_ending
from imgpipe.components.example_gen.sources import tables
from imgpipe.components.example_gen.sources.images import FileReader, Item, Listing
from imgpipe.components.example_gen.sources.pixels import size_of_pixels
from imgpipe.components.example_gen.sources.tables import ROLES, SourceRow, SourceTable
from imgpipe.components.example_gen.sources.walk import visible_below
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import json_object
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.settings.data import DataSettings

JSON_LINES: Final = ".jsonl"
TEXT: Final = ".txt"
#: Endings of lists.
ENDINGS: Final = (".csv", ".tsv", TEXT, JSON_LINES)
_EXPECTED = "expected a .csv with the columns path,label[,split,group], or a .jsonl of those"
_DELIMITERS = ",\t;"
_LINE_LIMIT = 1 << 26  # characters of a line; 2048 x 2048 RGB pixels take 50 MB
_MAX_COLUMNS = 200  # rows of JSON may have different keys, so that a table may be very large
_MAX_PATH, _MAX_NAME = 4096, 64  # characters; the first is the limit of Linux
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_HEAD = 1 << 16  # bytes in which the first rows of a list are
_LOOKED_INTO = 20  # texts beside images
_EXAMPLE = 80  # characters of a row that a message shows


def list_rows(spec: str, options: DataSettings) -> Listing:
    """List the files that a list names.

    Raises:
        ConfigError: The list is not read, none of its files is there, or rows cannot be used.
    """
    file = Path(spec).expanduser().absolute()
    root = Path(options.root).expanduser().absolute() if options.root else file.parent
    if not root.is_dir():
        raise ConfigError(
            f"data.root: expected the folder of the images that {spec} lists. Received: {root}, "
            "which is not a folder"
        )
    files = _Files(os.path.normpath(root))
    listing = Listing(spec, FileReader(files.root, options.follow_links), _EXPECTED)
    try:
        table = _read(file, options, files)
    except (OSError, ValueError, csv.Error) as error:
        raise tables.not_read(spec, error) from None
    if not table.rows:
        raise tables.not_read(spec, "it has no row below its header", table.titles)
    columns = _columns(spec, table, options, files)
    rows = []
    for number, cells in table.rows.items():
        path, label, split, group = (
            cells[columns[role]] if columns[role] >= 0 else "" for role in ROLES
        )
        if not path:
            raise tables.not_read(spec, f"row {number} has no path")
        item = files.item(tables.cell_text(path), number)
        rows.append(SourceRow(f"row {number}", item, label, split, group))
    problems = [row.item.problem for row in rows]
    if all(problems) and problems[0] is not None:
        first = problems[0].detail
        raise ConfigError(
            f"data source {spec!r}: none of its {len(files.items):,} files exists below "
            f"{files.root!r} (first: {first}). Paths start at the folder of the list, or at "
            f"data.root, the folder of the images; {tables.GUIDE}"
        )
    tables.note_unread(listing.notes, table.titles, table.unread(columns.values()))
    _note_other_tables(listing, file)
    tables.add_rows(listing, [SourceTable(file.name, rows)], options)
    return listing


@dataclass(frozen=True)
class _Cells:
    """A list as text.

    Attributes:
        titles: Titles of the columns; their numbers where there is no header.
        has_titles: Whether there is a header.
        rows: The cells by the number of the row.
    """

    titles: list[str]
    has_titles: bool
    rows: Mapping[int, Sequence[str]]

    def column(self, number: int) -> list[str]:
        """Return the texts of a column."""
        return [tables.cell_text(cells[number]) for cells in self.rows.values()]

    def unread(self, read: Iterable[int]) -> dict[int, list[str]]:
        """Return the columns besides those that are read."""
        left = set(range(len(self.titles))).difference(read)
        return {number: self.column(number) for number in sorted(left)}


def _read(file: Path, options: DataSettings, files: _Files) -> _Cells:
    """Read a list; an OSError, a ValueError or a csv.Error is the reason of a refusal."""
    with open_regular(file) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        if file_names.ending_of(file.name) == JSON_LINES:
            return _json_cells(text)
        rows = _text_rows(text, file.name)
    if not rows:
        raise ValueError("it has no row")
    first = rows[0]
    if len(first) > _MAX_COLUMNS:
        raise ValueError(f"it has {len(first):,} columns")
    for number, row in enumerate(rows, 1):
        if len(row) > len(first):
            raise ValueError(f"row {number} has {len(row)} cells, and the first row {len(first)}")
    cells = {n: row + [""] * (len(first) - len(row)) for n, row in enumerate(rows, 1)}
    named = {options.image_column, options.label_column, options.group_column}
    titled = any(tables.is_usual(cell, role) for cell in first for role in ("path", "label"))
    if titled or not named.isdisjoint(first):
        del cells[1]
        return _Cells(first, True, cells)
    if options.image_column.isdecimal() or is_image(first[0]) or files.has(first[0]):
        return _Cells(list(map(str, range(len(first)))), False, cells)
    del cells[1]
    return _Cells(first, True, cells)


def _text_rows(text: Iterable[str], name: str) -> list[list[str]]:
    """Return the cells of the rows of a text that are not empty."""
    lines = [line for line in text if line.strip()]
    delimiter = max(_DELIMITERS, key=lines[0].count) if lines else ","
    if lines and delimiter not in lines[0] and file_names.ending_of(name) == TEXT:
        return [line.split(maxsplit=1) for line in map(str.strip, lines)]
    csv.field_size_limit(_LINE_LIMIT)
    rows = csv.reader(lines, delimiter=delimiter)
    return [[cell.strip() for cell in row] for row in rows if any(row)]


def _json_cells(lines: Iterable[str]) -> _Cells:
    """Return the cells of JSON Lines, whose columns are all keys."""
    objects: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                objects[number] = json_object.parse(line)
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from None
    titles = list(dict.fromkeys(key for value in objects.values() for key in value))
    if not titles:
        raise ValueError("it has no row")
    if len(titles) > _MAX_COLUMNS:
        raise ValueError(f"it has {len(titles):,} columns")
    rows = {n: [_json_text(value.get(t)) for t in titles] for n, value in objects.items()}
    return _Cells(titles, True, rows)


def _json_text(value: Any) -> str:
    """Return a JSON value as text; null is "", and what holds other values is JSON."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value).strip()


def _columns(where: str, table: _Cells, options: DataSettings, files: _Files) -> dict[str, int]:
    """Return the column of each role, -1 for none; paths and labels are needed.

    Without a header, the first column is that of the paths, and the second that of the labels.
    """
    titles = table.titles if table.has_titles else []
    columns = tables.find_columns(where, titles, options, ROLES)
    first = next(iter(table.rows.values()), [])
    if columns["path"] < 0:
        here = (n for n, cell in enumerate(first) if n not in columns.values() and files.has(cell))
        columns["path"] = next(here, -1 if titles else 0)
    if columns["path"] < 0:
        why = "no column has a usual name of paths, and none names files that are here"
        raise tables.not_read(where, f"{why}; name it by data.image_column", titles, first)
    if columns["label"] < 0 and not titles and len(table.titles) > 1:
        columns["label"] = 0 if columns["path"] else 1
    rest = table.unread(columns.values())
    tables.refuse_splits(where, table.titles, rest)
    if columns["label"] < 0 or (not options.label_column and _is_doubtful(columns, table, rest)):
        why = "no column has a usual name of labels"
        if columns["label"] >= 0:
            title = table.titles[columns["label"]]
            why = f"the column {title} has numbers, and another one words and fewer of them"
        by_values = sorted(rest, key=lambda number: len(set(rest[number])))
        shown = [f"{table.titles[n]} ({len(set(rest[n])):,})" for n in by_values]
        others = f"; the others, with numbers of values, are {join_names(shown)}" if shown else ""
        raise tables.not_read(where, f"{why}{others}. Name it by data.label_column", titles, first)
    return columns


def _is_doubtful(
    columns: Mapping[str, int], table: _Cells, rest: Mapping[int, Sequence[str]]
) -> bool:
    """Whether the labels are numbers, and another column has words and fewer different ones."""
    labels = {*table.column(columns["label"])} - {""}
    if not all(map(tables.is_number, labels)):
        return False
    others = ({*cells} - {""} for cells in rest.values())
    return any(1 < len(o) < len(labels) and not any(map(tables.is_number, o)) for o in others)


def _note_other_tables(listing: Listing, file: Path) -> None:
    """Note the tables beside a list, which may hold labels or splits."""
    for other in sorted(file.parent.iterdir()):
        is_table = file_names.ending_of(other.name) in (*ENDINGS, ".xlsx", ".xls", ".ods", ".json")
        if is_table and other.name != file.name and not file_names.is_hidden(other.name):
            listing.notes.add("unused_table", other.name, "may hold labels or splits")


class _Files:
    """The files below a folder to which the paths of a list lead."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.items: dict[str, Item] = {}  # by the name in the list
        self._by_stem: dict[str, list[str]] | None = None

    def has(self, name: str) -> bool:
        """Whether a cell names a file, perhaps without its ending."""
        path, _ = self._path(name)
        return bool(path and self._place(path))

    def item(self, name: str, number: int) -> Item:
        """Return the item of a name in a row; one that is not read says why."""
        if name not in self.items:
            path, refused = self._path(name)
            if refused:
                last = name.replace("\\", "/").rstrip("/.").rpartition("/")[2] or "unnamed"
                odd = f"row-{number:06d}/{last[-_MAX_NAME:]}"
                self.items[name] = Item.unreadable(odd, refused)
            elif place := self._place(path):
                self.items[name] = Item(place)
            else:
                why = f"{self.root}/{path}: {os.strerror(2)}"
                self.items[name] = Item.unreadable(path, why)
        return self.items[name]

    def _path(self, name: str) -> tuple[str, str]:
        """Return the path below the root that a name means, or "" and why it is refused."""
        if len(name) > _MAX_PATH:
            shown = repr(name[:_MAX_NAME])
            return "", f"{shown}… has {len(name):,} characters, more than a path may have"
        # A list from Windows has backslashes alone; beside slashes they are a part of the name.
        path = name if "/" in name else name.replace("\\", "/")
        path = posixpath.normpath(posixpath.join(f"{self.root}/", path))
        is_elsewhere = "://" in name or "\0" in name or _DRIVE.match(name)
        if path.startswith(f"{self.root}/") and not is_elsewhere:
            return path[len(self.root) + 1 :], ""
        return "", f"{name!r} is no path in {self.root!r}; data.root is the folder of all files"

    def _place(self, path: str) -> str:
        """Return the path of the file that a path names, perhaps with another ending; "" for none.

        Of several, it is the largest that is an image, which is no preview and no label.
        """
        try:
            if not stat.S_ISDIR(os.stat(f"{self.root}/{path}").st_mode):  # noqa: PTH116  # faster
                return path
        except OSError:
            if os.path.lexists(f"{self.root}/{path}"):  # a link to nowhere is rejected by name
                return path
        if self._by_stem is None:
            self._by_stem = collections.defaultdict(list)
            for below in visible_below(Path(self.root)) if self.root != "/" else ():
                self._by_stem[without_ending(below)].append(below)
        alike = filter(self._is_image, self._by_stem.get(without_ending(path), ()))
        sizes = {path: Path(self.root, path).stat().st_size for path in alike}
        return max(sizes, key=lambda path: (sizes[path], path), default="")

    def _is_image(self, path: str) -> bool:
        if is_image(path):
            return True
        try:
            with open_regular(Path(self.root, path)) as file:
                return file_names.begins_as_image(file.read(file_names.HEAD))
        except OSError:
            return False


@dataclass(frozen=True)
class NamedImage:
    """A list beside images, by its first row that names one of them.

    Attributes:
        file: Path of the list.
        root: Folder at which its paths start; None if they start at none of the source.
        images: The images that the row may name.
        words: What else the row says, in lower case; of a path its parts.
        example: The row, for messages.
    """

    file: str
    root: str | None
    images: Sequence[str]
    words: frozenset[str]
    example: str


def named_images(
    files: Sequence[str], head: Callable[[str, int], bytes], images: Sequence[Item]
) -> list[NamedImage]:
    """Return the lists among some files whose first rows name images and say more of them.

    Args:
        files: Paths of files that are no images.
        head: Function that reads the first bytes of a file.
        images: The images beside them.
    """
    texts = [file for file in files if file_names.ending_of(file) in ENDINGS]
    texts.sort(key=lambda file: (file.count("/"), file))
    by_name: dict[str, list[str]] = collections.defaultdict(list)
    for item in images if texts else ():
        by_name[_inside_out(item.path)[0]].append(item.path)
    named = (_named_image(file, head(file, _HEAD), by_name) for file in texts[:_LOOKED_INTO])
    return [image for image in named if image is not None]


def _named_image(file: str, head: bytes, by_name: Mapping[str, Sequence[str]]) -> NamedImage | None:
    """Return the first image that one of the first two rows of a list names; None without one."""
    if size_of_pixels(head):
        return None
    lines = head.decode("utf-8-sig", "replace").splitlines()[:2]
    try:
        if file_names.ending_of(file) == JSON_LINES:
            rows = [[str(value) for value in json_object.parse(line).values()] for line in lines]
        else:
            rows = _text_rows(lines, file)
    except (ValueError, csv.Error):
        return None
    for row in rows:
        for cell in row:
            said = [other for other in row if other and other != cell]
            wanted = _inside_out(cell)
            paths = by_name.get(wanted[0], ()) if cell and said else ()
            if paths:
                shared = {path: _shared(_inside_out(path), wanted) for path in paths}
                most = max(shared.values())
                nearest = [path for path in paths if shared[path] == most]
                folders = nearest[0].split("/")[: -len(wanted)]
                root = "/".join(folders) if most == len(wanted) else None
                words = {part.lower() for other in said for part in re.split(r"[\\/]", other)}
                example = ", ".join(row)[:_EXAMPLE]
                return NamedImage(file, root, nearest, frozenset(words), example)
    return None


def _inside_out(path: str) -> list[str]:
    """Return the name in a path, without its ending, and the folders from the innermost on."""
    return without_ending(path.replace("\\", "/")).lower().split("/")[::-1]


def _shared(path: Sequence[str], wanted: Sequence[str]) -> int:
    """Return the number of parts with which two paths end alike."""
    equal = (part == other for part, other in zip(path, wanted, strict=False))
    return sum(1 for _ in itertools.takewhile(bool, equal))
