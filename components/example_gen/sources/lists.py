"""A list of files as a source, and where its files are.

A list may leave out the endings of files, or have others. Folders are walked once, and only when a
file is not where the list says. Contradictions (two labels for one
file) and paths that lead out of its folder become problems of the item, with their rows.
"""

from __future__ import annotations

import collections
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file.file_names import is_hidden, is_image, without_ending
from imgpipe.components.common.image_record import TWO_GROUPS, TWO_LABELS, TWO_SPLITS
from imgpipe.components.common.splits import split_word
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import list_files, tables
from imgpipe.components.example_gen.sources.base import (
    REFUSED,
    Item,
    Scan,
    Source,
    SourceKind,
    listed,
)
from imgpipe.components.example_gen.sources.local_files import BYTE_LIMIT, check_inside
from imgpipe.components.example_gen.sources.refusal import commands
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import read_bytes
from imgpipe.models.finding import Finding

if TYPE_CHECKING:
    import pandas

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_EXPECTED = "expected a .csv with the columns path,label[,split,group], or a .jsonl of those"
_MAX_PATH, _MAX_NAME = 4096, 64  # characters; the first is the limit of Linux
_ROLES = ("path", "label", "split", "group")


def _place(name: str, root: str) -> tuple[str, str]:
    """Return the path below the absolute `root` that a name means, or "" and why it is refused."""
    if len(name) > _MAX_PATH:
        shown = repr(name[:_MAX_NAME])
        return "", f"{shown}… has {len(name):,} characters, more than a path may have"
    if "://" in name:
        return "", f"{name!r} is a URL; only files are read"
    # A list from Windows has backslashes alone; beside slashes they are a part of the name.
    path = name if "/" in name else name.replace("\\", "/")
    path = posixpath.normpath(posixpath.join(f"{root}/", path))
    elsewhere = _DRIVE.match(name) is not None
    if path.startswith(f"{root}/") and "\0" not in name and not elsewhere:
        return path[len(root) + 1 :], ""
    if elsewhere or (name.startswith("/") and not os.path.lexists(name)):
        return "", f"{name!r} is a path of another machine"
    return "", f"{name!r} leads out of {root!r}; set data.root to the folder of all files"


def _places(names: Iterable[str], root: str) -> dict[str, tuple[str, str]]:
    """Return the `_place` of each name; that of no file may have another ending, or none."""
    places = {name: _place(name, root) for name in names}
    missing = [name for name, (path, _) in places.items() if path and not _exists(root, path)]
    files = _files_below(root) if missing else {}
    for name in missing:
        alike = files.get(without_ending(places[name][0]), [])
        if alike:
            places[name] = min(alike), ""  # a photograph has its mask as a PNG beside it
    return places


def _exists(root: str, path: str) -> bool:
    return os.path.lexists(f"{root}/{path}")


def _files_below(root: str) -> dict[str, list[str]]:
    """Return all files that are not hidden by their paths without endings."""
    by_path: dict[str, list[str]] = collections.defaultdict(list)
    for folder, folders, names in os.walk(root) if root else ():  # not through the whole machine
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        inside = folder[len(root) + 1 :]
        for file in names:
            if not is_hidden(file):
                path = f"{inside}/{file}".lstrip("/")
                by_path[without_ending(path)].append(path)
    return by_path


def _folders_with(names: Iterable[str], root: str) -> list[str]:
    """Return the folders below the absolute `root` at which all these names begin."""
    files = _files_below(root)
    folders: list[set[str]] = []
    for name in names:
        end = f"/{without_ending(name)}"
        paths = [path for key, alike in files.items() if key.endswith(end) for path in alike]
        folders.append({path.rsplit("/", end.count("/"))[0] for path in paths})
    return sorted(set.intersection(*folders))


@dataclass(frozen=True)
class _Row:
    """What a row says of a file."""

    number: str
    name: str  # as it is listed
    #: Split, group and label, "" for none, by the problem of several. The label comes last, because
    #: a person may correct it, and the others would remain.
    said: dict[str, str]


def _item(path: str, locator: str, rows: Sequence[_Row]) -> Item:
    """Create the item of a file, with a problem when its rows contradict each other."""
    problem = ""
    values: list[str | None] = []
    for reason in rows[0].said:
        first_rows: dict[str, str] = {}
        for row in rows:
            first_rows.setdefault(row.said[reason], row.number)
        first_rows.pop("", None)
        values.append(next(iter(first_rows)) if len(first_rows) == 1 else None)
        if len(first_rows) > 1 and not problem:
            values_in_rows = (f"{value!r} (row {row})" for value, row in first_rows.items())
            problem = f"{reason}: listed as {' and '.join(values_in_rows)}"
    split, group, label = values
    return Item(path, label, split, group=group, problem=problem, locator=locator)


@dataclass(frozen=True)
class ListSource(Source):
    """A list of files, or a folder with one list for each split, on a mounted file system."""

    file: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Read the list but not the files; see `Source.listing`.

        Raises:
            ConfigError: The list cannot be read, or is not as expected.
        """
        folder = self._root()
        if not folder.is_dir():
            raise ConfigError(
                f"data.root: expected the folder of the images that {self.file} lists. "
                f"Received: {folder}, which is not a folder"
            )
        rows, notes = self._rows()
        root = os.path.normpath(folder).rstrip("/")
        places = _places(dict.fromkeys(row.name for row in rows), root)
        rows_of: dict[tuple[str, str], list[_Row]] = collections.defaultdict(list)
        for row in rows:
            path, refused = places[row.name]
            if refused:
                # Refused rows may name the same file; each is rejected as an item of its own.
                name = row.name.replace("\\", "/").rstrip("/.").rpartition("/")[2] or "unnamed"
                path = f"row-{row.number.zfill(6)}/{name[-_MAX_NAME:]}"
            rows_of[path, refused and REFUSED + refused].append(row)
        notes += [
            noted("listed_twice", path, f"in rows {join_names([row.number for row in same])}")
            for (path, _), same in rows_of.items()
            if len(same) > 1
        ]
        labels = {row.said[TWO_LABELS] for row in rows} - {""}
        notes += tables.check_single_labels(self.file, labels, self.options.classes)
        items = [_item(path, locator, same) for (path, locator), same in rows_of.items()]
        scan = listed(self.file, items, _EXPECTED, self.options.least_classes, notes, labels)
        if not any(path and _exists(root, path) for path, _ in places.values()):
            raise self._nothing_found(root, places)
        return scan

    def _nothing_found(self, root: str, places: Mapping[str, tuple[str, str]]) -> ConfigError:
        """Say that no file is there, and which folder below has the first and the last of them."""
        first, *_, last = [*places, *places]
        folders = _folders_with((places[name][0] or name for name in (first, last)), root)
        ways = [{"root": f"{root}/{folder}"} for folder in folders]
        why = (
            f"none of its {len(places):,} files exists below {root!r} (first: "
            f"{places[first][1] or repr(first)}). Paths start at the folder of the list, or "
            f"at data.root, the folder of the images; {tables.GUIDE}"
        )
        lines = commands(self.file, self.options, ways)
        return ConfigError("\n".join([f"data source {self.file!r}: {why}", *lines]))

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

    def _path(self) -> Path:
        return Path(self.file).expanduser().absolute()

    def _root(self) -> Path:
        if self.options.root:
            return Path(self.options.root).expanduser().absolute()
        return self._path() if self._path().is_dir() else self._path().parent

    def _rows(self) -> tuple[list[_Row], list[Finding]]:
        """Return the rows of all lists, and notes of what is not read."""
        path = self._path()
        if not path.is_dir():
            rows, notes = self._rows_of(path)
            return rows, [*notes, *list_files.texts_of_images(path.parent, path)]
        rows = []
        notes = []
        for name, split in list_files.lists_of_splits(path).items():
            of_list, unread = self._rows_of(path / name, name, split)
            rows += of_list
            notes += unread
        if not rows:
            expected = "expected a list for each split, such as train.csv and test.csv"
            raise ConfigError(f"data source {self.file!r} is a folder; {expected}")
        return rows, notes

    def _rows_of(
        self, file: Path, name: str = "", split: str = ""
    ) -> tuple[list[_Row], list[Finding]]:
        """Return the rows of one list, and notes of columns that nothing reads.

        Of several lists, each has its path in their folder as a name, and a split for its rows.
        """
        where = str(file)
        if not tables.is_json_lines(file):  # whose rows may have other keys
            self._check_header(file)
        titles, cells = self._cells(file)
        text = {number: list(map(tables.cell_text, cells[number])) for number in cells.columns}
        columns = self._columns(where, titles, text)
        for role in ("path", "label"):
            if columns[role] < 0:
                raise self._without(role, where, titles, cells)
        absent = [""] * len(cells)
        said = zip(cells.index, *(text.get(columns[role], absent) for role in _ROLES), strict=True)
        above = name.rpartition("/")[0]
        rows = []
        for number, path, label, word, group in said:
            if not path:
                raise tables.not_read(where, f"row {number} has no path")
            if nested := next((cell for cell in (path, label) if cell.startswith("{")), ""):
                raise tables.not_read(where, f"row {number} has a table in a cell: {nested}")
            word = tables.split_text(word)
            in_split = split_word(word, f"{where!r}, row {number}") if word else split
            row = {TWO_SPLITS: in_split, TWO_GROUPS: group, TWO_LABELS: label}
            listed_name = f"{above}/{path}" if above else path
            rows.append(_Row(f"{name} {number}".strip(), listed_name, row))
        unread = {n: cells for n, cells in text.items() if n not in columns.values()}
        return rows, tables.unread_columns(titles, unread)

    def _cells(self, file: Path, most: int | None = None) -> tuple[list[str], pandas.DataFrame]:
        """Return the titles of a list's columns, and the cells of its first rows, or of all."""
        try:
            return tables.read_rows(file, self.options.image_column.isdecimal(), most)
        except (OSError, ValueError) as error:
            raise tables.not_read(str(file), error) from None

    def _check_header(self, file: Path) -> None:
        """Refuse a table, which may be large, if its header says that none of it is the label."""
        titles, cells = self._cells(file, 2)
        columns = tables.find_columns(str(file), titles, self.options, _ROLES)
        others = [number for number in cells.columns if number not in columns.values()]
        by_cells = sum(columns[role] < 0 for role in ("path", "label"))
        if columns["label"] < 0 and len(others) > by_cells:
            raise self._without("label", str(file), titles, cells)

    def _without(
        self, role: str, where: str, titles: Sequence[str], cells: pandas.DataFrame
    ) -> ConfigError:
        """Return the refusal of a list that has no column of a role."""
        why = f"it has no column for the {role}; name it by data.{tables.SETTINGS[role]}"
        first = cells[:1].to_numpy().ravel().tolist()
        return tables.not_read(where, why, titles, first)

    def _columns(
        self, where: str, titles: Sequence[str], text: Mapping[int, Sequence[str]]
    ) -> dict[str, int]:
        """Return the column of each role by settings, usual names and cells; -1 for none."""
        columns = tables.find_columns(where, titles, self.options, _ROLES)
        named = [n for n, cells in text.items() if cells and all(map(is_image, cells))]
        if columns["path"] < 0 and len(named) == 1:
            columns["path"] = named[0]
        used = {columns[role] for role in ("path", "label", "group")}
        rest = {number: cells for number, cells in text.items() if number not in used}
        rest.pop(columns["split"], None)
        tables.refuse_splits(where, titles, rest)
        if columns["label"] < 0 and len(rest) == 1:
            (columns["label"],) = rest
        return columns


#: Before the tables of pixels, since a .csv with a column of paths is a list of files.
KINDS = (SourceKind(list_files.KIND, ListSource, list_files.lists_files, order=20),)
