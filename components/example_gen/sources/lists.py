"""A list of files as a source: CSV or JSON Lines with path, label and, optionally, split and group.

Contradictions in the list (two labels for one file) and paths that lead out of its folder become
problems of the item, with their rows. A list that cannot be parsed is refused.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgpipe.components.example_gen.sources.base import (
    REFUSED,
    Item,
    Kind,
    Note,
    Scan,
    Source,
    SourceOptions,
)
from imgpipe.components.example_gen.sources.local_files import BYTE_LIMIT, check_inside
from imgpipe.components.example_gen.sources.tree import listed, some, split_word
from imgpipe.components.image_record import TWO_GROUPS, TWO_LABELS, TWO_SPLITS
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular, read_bytes

_JSON = (".jsonl", ".ndjson")
_TABLE = (".csv", ".tsv")
#: Names of the column of paths that may as well be those of other columns of a table of pixels.
_VAGUE = ("image", "image_id", "id")
#: Recognised names of the columns by role, in lower case.
_USUAL = {
    "path": (
        *("path", "filepath", "file_path", "filename", "file_name", "file", "image_path"),
        *_VAGUE,
    ),
    "label": ("label", "class", "class_name", "category", "target"),
    "split": ("split", "set", "subset", "partition"),
    "group": ("group", "group_id"),
}
#: Settings of [data] that name the column of a role.
_SETTINGS = {"path": "image_column", "label": "label_column"}
_SUFFIXES = (".jpg", ".jpeg", ".png")  # of files that a list names without one
_EXPECTED = (
    "expected a .csv with the columns path,label[,split,group], or a .jsonl of those; name other "
    "columns by data.image_column and data.label_column"
)
_MIN_PIXELS = 4  # two by two
_LINE_LIMIT = 1 << 26  # characters of one of the first lines; 2048 x 2048 RGB pixels take 50 MB
_Table = tuple[list[str], list[tuple[int, list[str]]]]  # header, and cells by number of the row


def lists_files(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names a list of files: JSON Lines, or a table with a path column."""
    path = Path(locator).expanduser()
    if locator.lower().endswith(_JSON):
        return True
    if not locator.lower().endswith(_TABLE) or not path.is_file():
        return False
    try:
        _, (titles, second) = first_rows(path)
    except OSError:
        return False
    titles = [title.lower() for title in titles]
    place = next((titles.index(name) for name in _USUAL["path"] if name in titles), -1)
    if options.image_column or place < 0 or titles[place] not in _VAGUE:
        return bool(options.image_column) or place >= 0
    others = [cell for number, cell in enumerate(second) if number != place]
    return sum(map(is_number, others)) < _MIN_PIXELS


def first_rows(path: Path) -> tuple[str, list[list[str]]]:
    """Return the delimiter of a table, and the cells of its first two rows ([] for none)."""
    with io.TextIOWrapper(open_regular(path), "utf-8-sig", "replace") as file:
        lines = filter(str.strip, iter(lambda: file.readline(_LINE_LIMIT), ""))
        first = list(itertools.islice(lines, 2))
    delimiter = max(",\t;", key=first[0].count) if first else ","
    csv.field_size_limit(_LINE_LIMIT)
    rows = [[cell.strip() for cell in row] for row in csv.reader(first, delimiter=delimiter)]
    return delimiter, [*rows, [], []][:2]


def is_number(cell: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def without_decimals(label: str) -> str:
    """Return a numeric label without the decimals that spreadsheets add: "3.0" becomes "3"."""
    return label[:-2] if re.fullmatch(r"\d+\.0", label) else label


def said(error: Exception, file: str, expected: str) -> ConfigError:
    """Say why a table cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        what = f"is not UTF-8 text (byte {error.start}); save it as such"
    elif isinstance(error, OSError):
        what = f"cannot be read: {error.strerror or error}; {expected}"
    else:
        what = f"is not a CSV file: {str(error).strip()}"
    return ConfigError(f"data source {file!r} {what}")


def column(
    where: str, header: Sequence[str], wanted: str, usual: Sequence[str], required: bool = False
) -> int:
    """Find a column by its name or index in the configuration, or by its usual names.

    Args:
        where: The source, for messages.
        header: Names of the columns, empty when the file has no header.
        wanted: Name or index of the column in the configuration, "" for none.
        usual: Usual names of the column, in lower case.
        required: Whether the column must exist.

    Returns:
        The index of the column, -1 for none.

    Raises:
        ConfigError: The column of the configuration or a required column is missing.
    """
    cells = [cell.strip() for cell in header]
    if wanted:
        if wanted in cells:
            return cells.index(wanted)
        if wanted.isdecimal() and (not header or int(wanted) < len(header)):
            return int(wanted)
        raise ConfigError(f"data source {where!r} has no column {wanted!r}; found {some(cells)}")
    lower = [cell.lower() for cell in cells]
    for name in usual:
        if name in lower:
            return lower.index(name)
    if required:
        raise ConfigError(
            f"data source {where!r} has no column for the {usual[0]}; "
            + (f"found {some(cells)}; " if cells else "")
            + f"name it by data.{_SETTINGS[usual[0]]}"
        )
    return -1


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
        problems = (
            f"{reason}: listed as " + " and ".join(f"{v!r} (row {n})" for v, n in found.items())
            for reason, found in self.said.items()
            if len(found) > 1
        )
        split, group, label = (
            next(iter(found)) if len(found) == 1 else None for found in self.said.values()
        )
        problem = next(problems, "")
        return Item(self.path, label, split, group=group, problem=problem, locator=self.locator)


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
        entries: dict[str, _Entry] = {}
        suffix: str | None = None
        for row, (raw, label, word, group) in self._rows():
            if not raw:
                raise self._wrong(row, f"no path; {_EXPECTED}")
            if suffix is None:
                suffix = _suffix(root, raw)
            path, refused = _below(raw + suffix, root)
            # Refused rows may name the same file; each is rejected as an item of its own.
            path = f"row-{row:06d}/{path}" if refused else path
            entry = entries.setdefault(path, _Entry(path, REFUSED + refused if refused else ""))
            entry.rows.append(row)
            label = without_decimals(label)
            split = split_word(word, f"{self.file!r}, row {row}") if word else ""
            for reason, value in zip(entry.said, (split, group, label), strict=True):
                if value:
                    entry.said[reason].setdefault(value, row)
        notes = [
            Note("listed_twice", entry.path, f"in rows {some([str(row) for row in entry.rows])}")
            for entry in entries.values()
            if len(entry.rows) > 1
        ]
        items, least = [entry.item() for entry in entries.values()], self.options.least_classes
        labels = {label for entry in entries.values() for label in entry.said[TWO_LABELS]}
        scan = listed(self.file, items, _EXPECTED, least, notes, labels)
        paths = [entry.path for entry in entries.values() if not entry.locator]
        if paths and not any(os.path.lexists(root / path) for path in paths):
            raise ConfigError(
                f"data source {self.file!r}: none of its {len(paths):,} files exists below "
                f"{str(root)!r} (first: {paths[0]!r}). Paths start at the folder of the list, or "
                "at data.root. Use: --set data.root=FOLDER, with the folder of the images"
            )
        return scan

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

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of each row, and its path, label, split and group ("" where empty)."""
        path = Path(self.file).expanduser()
        try:
            is_json = self.file.lower().endswith(_JSON)
            header, rows = self._objects(path) if is_json else self._cells(path)
        except (OSError, ValueError) as error:
            raise said(error, self.file, _EXPECTED) from None
        columns = [
            column(
                self.file,
                header,
                getattr(self.options, _SETTINGS.get(role, ""), ""),
                usual,
                required=role in ("path", "label"),
            )
            for role, usual in _USUAL.items()
        ]
        for number, cells in rows:
            yield number, [cells[n] if 0 <= n < len(cells) else "" for n in columns]

    def _cells(self, path: Path) -> _Table:
        """Read a CSV file, which has no header if the path is given by the number of its column."""
        import pandas

        delimiter, _ = first_rows(path)
        text = {"dtype": str, "na_filter": False, "encoding": "utf-8-sig"}
        with open_regular(path) as file:
            table = pandas.read_csv(file, sep=delimiter, header=None, **text).fillna("")
        rows = [[cell.strip() for cell in row] for row in table.itertuples(index=False)]
        first = {cell.lower() for cell in rows[0]}
        bare = self.options.image_column.isdecimal() and not first & {*_USUAL["path"], "label"}
        numbered = list(enumerate(rows, 1))
        return ([], numbered) if bare else (rows[0], numbered[1:])

    def _objects(self, path: Path) -> _Table:
        """Read a JSON Lines file, whose columns are all keys; nested values count as empty."""
        objects: list[tuple[int, dict[str, Any]]] = []
        with io.TextIOWrapper(open_regular(path), "utf-8-sig") as file:
            for row, line in enumerate(file, 1):
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
        return header, [(row, [_text(value.get(k)) for k in header]) for row, value in objects]


def _suffix(root: Path, first: str) -> str:
    """Return the suffix that a list leaves out, judged by its first file; "" for none."""
    if not first or Path(first).suffix or os.path.lexists(root / first):
        return ""
    return next((one for one in _SUFFIXES if os.path.lexists(root / f"{first}{one}")), "")


def _text(value: Any) -> str:
    """Return a JSON value as text; null and nested values are ""."""
    if value is None or isinstance(value, list | dict):
        return ""
    return str(value).strip()


def _below(raw: str, root: Path) -> tuple[str, str]:
    """Path relative to `root` and "", or the file name and why it must not be read."""
    # A list from Windows has backslashes alone; beside slashes they are a part of the name.
    plain = raw.replace("\\", "/") if "\\" in raw and "/" not in raw else raw
    name = plain.rstrip("/").rpartition("/")[2] or "unnamed"
    if "://" in plain:
        return name, f"{raw!r} is a URL; only files are read"
    path = os.path.normpath(root / plain)  # does not resolve links
    inside = os.path.relpath(path, root)
    if inside == "." or inside.split("/")[0] == ".." or "\0" in raw:
        return name, f"{raw!r} leads out of {str(root)!r}; set data.root to the folder of all files"
    return inside, ""


#: Before the tables of pixels, since a .csv with a column of paths is a list of files.
KINDS = (Kind("manifest", ListSource, lists_files, order=20),)
