"""A list of files as a source, and where its files are.

A list may leave out the endings of files, or have others. Folders are walked once, and only when a
file is not where the list says. A row whose path leads out of the folder is an item that is not
read.
"""

from __future__ import annotations

import collections
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from imgpipe.components.common.image_file.file_names import is_image, without_ending
from imgpipe.components.example_gen.sources import list_files, local_files, tables
from imgpipe.components.example_gen.sources.base import Item, SourceKind
from imgpipe.components.example_gen.sources.refusal import commands
from imgpipe.components.example_gen.sources.rows import (
    REFUSED,
    RowFiles,
    SourceRow,
    SourceTable,
)
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import read_bytes

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_EXPECTED = "expected a .csv with the columns path,label[,split,group], or a .jsonl of those"
_MAX_PATH, _MAX_NAME = 4096, 64  # characters; the first is the limit of Linux
_ROLES = ("path", "label", "split", "group")


def _place(name: str, root: str) -> tuple[str, str]:
    """Return the path below the absolute `root` that a name means, or "" and why it is refused."""
    if len(name) > _MAX_PATH:
        shown = repr(name[:_MAX_NAME])
        return "", f"{shown}… has {len(name):,} characters, more than a path may have"
    # A list from Windows has backslashes alone; beside slashes they are a part of the name.
    path = name if "/" in name else name.replace("\\", "/")
    path = posixpath.normpath(posixpath.join(f"{root}/", path))
    is_elsewhere = "://" in name or "\0" in name or _DRIVE.match(name)
    if path.startswith(f"{root}/") and not is_elsewhere:
        return path[len(root) + 1 :], ""
    return "", f"{name!r} is no path in {root!r}; data.root is the folder of all files"


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


def _placed(row: SourceRow, path: str, refused: str) -> SourceRow:
    """Return a row with the path of its file, or as an item of its own that is not read."""
    if not refused:
        return row._replace(path=path)
    name = row.path.replace("\\", "/").rstrip("/.").rpartition("/")[2] or "unnamed"
    number = row.place.rpartition(" ")[2].zfill(6)
    return row._replace(path=f"row-{number}/{name[-_MAX_NAME:]}", locator=REFUSED + refused)


def _files_below(root: str) -> dict[str, list[str]]:
    """Return all files that are not hidden by their paths without endings."""
    by_path: dict[str, list[str]] = collections.defaultdict(list)
    for path in local_files.visible_below(Path(root)) if root else ():  # not the whole machine
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


class ListSource(RowFiles):
    """A list of files, or a folder with one list for each split, on a mounted file system."""

    expected = _EXPECTED

    def tables(self) -> list[SourceTable]:
        """Read the lists but not the files; it is a ConfigError if none of these is there."""
        folder = self._root()
        if not folder.is_dir():
            raise ConfigError(
                f"data.root: expected the folder of the images that {self.locator} lists. "
                f"Received: {folder}, which is not a folder"
            )
        lists = super().tables()
        root = os.path.normpath(folder).rstrip("/")
        places = _places(dict.fromkeys(row.path for table in lists for row in table.rows), root)
        if not any(path and _exists(root, path) for path, _ in places.values()):
            raise self._nothing_found(root, places)
        return [
            replace(table, rows=[_placed(row, *places[row.path]) for row in table.rows])
            for table in lists
        ]

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
        lines = commands(self.locator, self.options, ways)
        return ConfigError("\n".join([f"data source {self.locator!r}: {why}", *lines]))

    def read_row(self, item: Item) -> bytes:
        """Read one file; one that is not there is an OSError with its whole path."""
        root = self._root()
        if not self.options.follow_links:
            local_files.check_inside(root / item.path, root)
        try:
            return read_bytes(root / item.path, local_files.BYTE_LIMIT)
        except FileNotFoundError as error:  # the list and `data.root` decide where it should be
            raise OSError(f"{root / item.path}: {error.strerror}") from None

    def _root(self) -> Path:
        if self.options.root:
            return Path(self.options.root).expanduser().absolute()
        return self.folder()

    def files(self, folder: Path) -> list[Path]:
        """Return the list, or those of a folder that each hold a split; none is a ConfigError."""
        if folder != self.path:
            return [self.path]
        lists = list_files.lists_of_splits(folder)
        if not lists:
            expected = "expected a list for each split, such as train.csv and test.csv"
            raise ConfigError(f"data source {self.locator!r} is a folder; {expected}")
        return [folder / name for name in lists]

    def table(self, file: Path, name: str) -> SourceTable:
        """Return the rows of one list with the paths that stand there, and notes on what is unread.

        In a list in a folder, paths start there. A list without the columns, or a path, is a
        ConfigError.
        """
        where = str(file)
        titles, cells = tables.read_rows(file, self.options.image_column.isdecimal())
        text = {number: list(map(tables.cell_text, cells[number])) for number in cells.columns}
        columns = self._columns(where, titles, text)
        for role in ("path", "label"):
            if columns[role] < 0:
                why = f"it has no column for the {role}; name it by data.{tables.SETTINGS[role]}"
                first = cells[:1].to_numpy().ravel().tolist()
                raise tables.not_read(where, why, titles, first)
        absent = [""] * len(cells)
        said = zip(cells.index, *(text.get(columns[role], absent) for role in _ROLES), strict=True)
        above = posixpath.dirname(name)
        rows = []
        for number, path, *others in said:
            if not path:
                raise tables.not_read(where, f"row {number} has no path")
            if nested := next((cell for cell in (path, others[0]) if cell.startswith("{")), ""):
                raise tables.not_read(where, f"row {number} has a table in a cell: {nested}")
            rows.append(SourceRow(f"row {number}", posixpath.join(above, path), "", *others))
        unread = {n: cells for n, cells in text.items() if n not in columns.values()}
        notes = tables.unread_columns(titles, unread)
        notes += list_files.unread_lists(file.parent, file) if file == self.path else []
        return SourceTable(name, rows, notes=notes)

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
KINDS = (
    SourceKind(
        list_files.KIND,
        ListSource,
        list_files.lists_files,
        order=20,
    ),
)
