"""A list of files as a source: CSV or JSON Lines with path, label and, optionally, split and group.

Contradictions in the list (two labels for one file) and paths that lead out of its folder become
problems of the item, with their rows. A list that cannot be parsed is refused.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.image_record import TWO_GROUPS, TWO_LABELS, TWO_SPLITS
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import tables
from imgpipe.components.example_gen.sources.base import (
    REFUSED,
    Item,
    Note,
    Scan,
    Source,
    SourceKind,
)
from imgpipe.components.example_gen.sources.found_files import FoundFiles, find_files
from imgpipe.components.example_gen.sources.listing import listed
from imgpipe.components.example_gen.sources.local_files import BYTE_LIMIT, check_inside
from imgpipe.components.example_gen.sources.readings import Reading, TwoReadings, classes_of
from imgpipe.components.example_gen.sources.split_names import split_word
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular, read_bytes

_JSON = (".jsonl", ".ndjson")
_TABLE = (".csv", ".tsv")
_EXPECTED = (
    "expected a .csv with the columns path,label[,split,group], or a .jsonl of those; name other "
    "columns by data.image_column and data.label_column"
)
_MAX_PATH, _MAX_NAME = 4096, 64  # characters; the first is the limit of Linux
_MIN_PIXELS = 4  # two by two
_MAX_COLUMNS = 10_000  # of a CSV file, each of which takes pandas half a millisecond
_MANY_COLUMNS = 200  # of more, the cells are not examined for what they hold
_Table = tuple[list[str], list[tuple[int, Sequence[str]]]]  # header, and rows by their number


def lists_files(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names a list of files: JSON Lines, or a table with a path column."""
    path = Path(locator).expanduser()
    if locator.lower().endswith(_JSON):
        return True
    if not locator.lower().endswith(_TABLE) or not path.is_file():
        return False
    try:
        _, (titles, second) = tables.first_rows(open_regular(path))
    except OSError:
        return False
    if options.image_column or any(tables.is_usual(title, "path", sure=True) for title in titles):
        return True
    if any(file_names.is_image(cell) for cell in (*titles, *second)):
        return True
    place = tables.find_column(locator, titles, "path")
    # The names of pixels are numbered, and those of classes in one-hot columns are not.
    pixels = [title for title, cell in zip(titles, second, strict=False) if tables.is_number(cell)]
    return place >= 0 and sum(any(map(str.isdigit, title)) for title in pixels) < _MIN_PIXELS


@dataclass
class _Entry:
    """All rows of a list for one file."""

    path: str
    locator: str
    rows: list[int] = field(default_factory=list)
    #: First row by value, by the problem of several values. The label comes last, because a person
    #: may correct it, and the others would remain.
    said: dict[str, dict[str, int]] = field(
        default_factory=lambda: {TWO_SPLITS: {}, TWO_GROUPS: {}, TWO_LABELS: {}}
    )

    def item(self) -> Item:
        """Create the item, with a problem when the rows contradict each other."""
        split, group, label = (
            next(iter(row_by_value)) if len(row_by_value) == 1 else None
            for row_by_value in self.said.values()
        )
        problem = next(self._contradictions(), "")
        return Item(self.path, label, split, group=group, problem=problem, locator=self.locator)

    def _contradictions(self) -> Iterator[str]:
        """Yield the problems of which the rows say several values."""
        for reason, row_by_value in self.said.items():
            if len(row_by_value) > 1:
                rows = (f"{value!r} (row {row})" for value, row in row_by_value.items())
                values = " and ".join(rows)
                yield f"{reason}: listed as {values}"


@dataclass(frozen=True)
class ListSource(Source):
    """A list of files on a local or mounted file system."""

    file: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Read the list but not the files; see `Source.listing`.

        Raises:
            ConfigError: The list cannot be read, or is not as expected.
        """
        root = self._root()
        if not root.is_dir():
            raise ConfigError(
                f"data.root: expected the folder of the images that {self.file} lists. "
                f"Received: {root}, which is not a folder"
            )
        rows, unread = self._rows()
        named: dict[str, int] = {}
        for row, (raw, *_) in rows:
            if not raw:
                raise self._wrong(row, f"no path; {_EXPECTED}")
            named.setdefault(raw, row)
        found_files = find_files(named, str(root))
        entries: dict[str, _Entry] = {}
        for row, (raw, label, word, group) in rows:
            path = found_files.paths.get(raw) or found_files.places[raw]
            refused = ""
            if not path or len(raw) > _MAX_PATH:
                # Refused rows may name the same file; each is rejected as an item of its own.
                name = raw.replace("\\", "/").rstrip("/.").rpartition("/")[2] or "unnamed"
                name = name[-_MAX_NAME:]
                path = f"row-{row:06d}/{name}"
                refused = _refusal(raw, root)
            entry = entries.setdefault(path, _Entry(path, REFUSED + refused if refused else ""))
            entry.rows.append(row)
            word = tables.split_cell(word)
            split = split_word(word, f"{self.file!r}, row {row}") if word else ""
            for reason, value in zip(entry.said, (split, group, label), strict=True):
                if value:
                    entry.said[reason].setdefault(value, row)
        notes = [
            Note(
                "listed_twice",
                entry.path,
                f"in rows {join_names([str(row) for row in entry.rows])}",
            )
            for entry in entries.values()
            if len(entry.rows) > 1
        ]
        items = [entry.item() for entry in entries.values()]
        least = self.options.least_classes
        labels = {label for entry in entries.values() for label in entry.said[TWO_LABELS]}
        tables.check_single_labels(self.file, labels, self.options.classes)
        notes += [*found_files.notes, *unread]
        scan = listed(self.file, items, _EXPECTED, least, notes, labels)
        if not found_files.paths:
            raise self._nothing_found(root, next(iter(named)), found_files)
        return scan

    def _nothing_found(self, root: Path, first: str, found_files: FoundFiles) -> ConfigError:
        """Say that no file is there, or that each may be one of several."""
        what = f"none of its {len(found_files.places):,} files exists"
        folders = {str(root / path.rpartition("/")[0]) for path in found_files.copies}
        if found_files.copies:
            what = "its files are in several folders"
            first = join_names(found_files.copies, 3)
        elif not found_files.places[first] or len(first) > _MAX_PATH:
            first = _refusal(first, root)
        else:
            name = first
            around = [root.parent, *(root.parent.iterdir() if root.name else ())]
            folders = {str(folder) for folder in around if (folder / name).is_file()}
            first = repr(first)
        why = (
            f"{what} below {str(root)!r} (first: {first}). Paths start "
            "at the folder of the list, or at data.root, the folder of the images"
        )
        starts = [Reading(f"paths below {place}", {"root": place}) for place in sorted(folders)]
        return TwoReadings(self.file, self.options, why, starts)

    def read(self, item: Item) -> bytes:
        """Read one file; see `Source.read`.

        Raises:
            OSError: The row names no image, or it cannot be read.
        """
        if item.locator.startswith(REFUSED):
            raise OSError(item.locator[1:])
        root = self._root()
        if not self.options.follow_links:
            check_inside(root / item.path, root)
        try:
            return read_bytes(root / item.path, BYTE_LIMIT)
        except FileNotFoundError as error:  # the list and `data.root` decide where it should be
            raise OSError(f"{root / item.path}: {error.strerror}") from None

    def _root(self) -> Path:
        if self.options.root:
            return Path(self.options.root).expanduser().absolute()
        return Path(self.file).expanduser().absolute().parent

    def _wrong(self, row: int, what: str) -> ConfigError:
        return ConfigError(f"data source {self.file!r}, row {row}: {what}")

    def _rows(self) -> tuple[list[tuple[int, list[str]]], list[Note]]:
        """Return the rows by their number, and notes about columns that nothing reads.

        A row is its path, label, split and group, "" where empty.
        """
        path = Path(self.file).expanduser()
        try:
            is_json = self.file.lower().endswith(_JSON)
            header, rows = self._objects(path) if is_json else self._cells(path)
        except (OSError, ValueError) as error:
            raise tables.unreadable_table(error, self.file, _EXPECTED) from None
        options = self.options
        width = len(header) or max((len(cells) for _, cells in rows), default=0)
        few = range(width if width <= _MANY_COLUMNS else 0)  # of more, only the names count
        columns = {number: [_cell(cells, number) for _, cells in rows] for number in few}
        path_column = self._path_column(header, columns)
        label = tables.find_column(self.file, header, "label", options.label_column)
        group = tables.find_column(self.file, header, "group", options.group_column)
        named = (path_column, label, group)
        rest = {number: cells for number, cells in columns.items() if number not in named}
        split = tables.split_column(rest)
        if split < 0:
            split = tables.find_column(self.file, header, "split")
        rest.pop(split, None)
        if label < 0 and len(rest) == 1:
            label, _ = rest.popitem()
        if label < 0:
            raise self._no_label(header, rows, rest)
        read: list[tuple[int, list[str]]] = []
        for number, cells in rows:
            in_order = (_cell(cells, column) for column in (path_column, label, split, group))
            read.append((number, [tables.cell_text(cell) for cell in in_order]))
        return read, tables.unread_columns(header, rest)

    def _path_column(self, header: Sequence[str], columns: Mapping[int, Sequence[str]]) -> int:
        """Return the column of the paths, by its name or because all its cells name images."""
        wanted = self.options.image_column
        usual = tables.find_column(self.file, header, "path", wanted) if header or wanted else -1
        named = [n for n, cells in columns.items() if cells and all(map(_names_image, cells))]
        if usual < 0 and len(named) == 1:
            return named[0]
        return tables.find_column(self.file, header, "path", wanted, required=True)

    def _no_label(
        self,
        header: Sequence[str],
        rows: Sequence[tuple[int, Sequence[str]]],
        rest: Mapping[int, Sequence[str]],
    ) -> ConfigError:
        """Say that no column is that of the label, with those that may be."""
        tables.check_one_hot(self.file, header, [cells for _, cells in rows])
        labels = {n: set(cells) - {""} for n, cells in rest.items()}
        titles = dict(enumerate(header)) or {n: str(n) for n in rest}
        columns = [
            Reading(classes_of(labels[n], len(rest[n])), {"label_column": titles[n]})
            for n in sorted(labels, key=lambda column: len(labels[column]))
            if len(labels[n]) > 1
        ]
        why = (
            f"it has no column for the label; found {join_names(list(titles.values()), 12)}; "
            "name it: --set data.label_column=NAME"
        )
        return TwoReadings(self.file, self.options, why, columns)

    def _cells(self, path: Path) -> _Table:
        """Read a CSV file, which has no header if the path is given by the number of its column."""
        import pandas

        delimiter, (titles, _) = tables.first_rows(open_regular(path))
        if len(titles) > _MAX_COLUMNS:
            raise ValueError(f"it has {len(titles):,} columns; {_EXPECTED}")
        with open_regular(path) as file:
            text = {"dtype": str, "na_filter": False, "encoding": tables.encoding(file)}
            table = pandas.read_csv(file, sep=delimiter, header=None, **text).fillna("")
        rows = [[cell.strip() for cell in row] for row in table.itertuples(index=False)]
        titled = any(tables.is_usual(cell, role) for cell in rows[0] for role in ("path", "label"))
        by_number = self.options.image_column.isdecimal() or any(map(_names_image, rows[0]))
        numbered: list[tuple[int, Sequence[str]]] = list(enumerate(rows, 1))
        return ([], numbered) if by_number and not titled else (rows[0], numbered[1:])

    def _objects(self, path: Path) -> _Table:
        """Read a JSON Lines file, whose columns are all keys; nested values count as empty."""
        objects: list[tuple[int, dict[str, Any]]] = []
        with open_regular(path) as file, io.TextIOWrapper(file, tables.encoding(file)) as lines:
            for row, line in enumerate(lines, 1):
                try:
                    value = json.loads(line) if line.strip() else {}
                except (ValueError, RecursionError) as error:
                    raise self._wrong(row, f"not JSON ({error}); {_EXPECTED}") from None
                if not isinstance(value, dict):
                    expected = "expected an object with path and label. Received: "
                    raise self._wrong(row, expected + line.strip()[:80])
                if value:
                    objects.append((row, value))
        header = list(dict.fromkeys(key for _, value in objects for key in value))
        return header, [(row, _ObjectCells(header, value)) for row, value in objects]


@dataclass(frozen=True)
class _ObjectCells(Sequence[str]):
    """The cells of a row of JSON Lines, made when they are read: rows may have different keys."""

    header: list[str]
    values: dict[str, Any]

    def __len__(self) -> int:
        return len(self.header)

    def __getitem__(self, place: Any) -> Any:
        return _text(self.values.get(self.header[place]))


def _cell(cells: Sequence[str], column: int) -> str:
    """Return the cell of a row in a column; "" if the row ends before it, or the column is -1."""
    return cells[column] if 0 <= column < len(cells) else ""


def _text(value: Any) -> str:
    """Return a JSON value as text; null and objects are "", and several values are JSON."""
    if value is None or isinstance(value, dict):
        return ""
    return (
        json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
    ).strip()


def _names_image(cell: str) -> bool:
    return file_names.is_image(tables.cell_text(cell))


def _refusal(raw: str, root: Path) -> str:
    """Say why a file must not be read."""
    if len(raw) > _MAX_PATH:
        return f"{raw[:_MAX_NAME]!r}… has {len(raw):,} characters, more than a path may have"
    if "://" in raw:
        return f"{raw!r} is a URL; only files are read"
    return f"{raw!r} leads out of {str(root)!r}; set data.root to the folder of all files"


#: Before the tables of pixels, since a .csv with a column of paths is a list of files.
KINDS = (SourceKind("manifest", ListSource, lists_files, order=20),)
