"""A list of files as a source, and where its files are.

A list may leave out the suffix, or write it, an accent or a space in another way. Folders are
walked once, and only when a file is not where the list says.

pandas reads it. Contradictions (two labels for one file) and paths that lead out of its folder
become problems of the item, with their rows. Any other list is refused with its columns and its
first row, and `docs/how-to/lists.md` has short programs that write one that is read.
"""

from __future__ import annotations

import collections
import io
import json
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.image_file.file_names import is_hidden
from imgpipe.components.common.image_record import TWO_GROUPS, TWO_LABELS, TWO_SPLITS
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import tables
from imgpipe.components.example_gen.sources.base import (
    REFUSED,
    Item,
    Scan,
    Source,
    SourceKind,
    listed,
)
from imgpipe.components.example_gen.sources.local_files import BYTE_LIMIT, check_inside
from imgpipe.components.example_gen.sources.readings import Reading, SeveralReadings
from imgpipe.components.example_gen.sources.split_names import split_word
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import json_object
from imgpipe.models.files.regular_files import open_regular, read_bytes
from imgpipe.models.finding import Finding

if TYPE_CHECKING:
    import pandas


_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def _as_written(path: str) -> str:
    """Return a path without the differences that people do not see."""
    # Names of screenshots have a narrow no-break space, which spreadsheets make a space.
    return " ".join(unicodedata.normalize("NFC", path).casefold().split())


def find_files(listed: Iterable[str], root: str) -> dict[str, str]:
    """Return the path below the absolute `root` of each listed name, "" for one that leads out."""
    root = os.path.normpath(root).rstrip("/")
    paths = {name: _inside(name, root) for name in listed}
    missing = [name for name, path in paths.items() if path and not _exists(root, path)]
    files = _files_below(root) if missing else {}
    for name in missing:
        key = _as_written(paths[name])
        alike = files.get(key) or files.get(posixpath.splitext(key)[0], [])
        if len({posixpath.splitext(path)[0] for path in alike}) == 1:
            paths[name] = min(alike)  # a photograph has its mask as a PNG file beside it
    return paths


def folders_with(names: Iterable[str], root: str) -> list[str]:
    """Return the folders below the absolute `root` at which all these names begin."""
    files = _files_below(os.path.normpath(root).rstrip("/"))
    folders: list[set[str]] = []
    for name in names:
        end = f"/{_as_written(name)}"
        paths = [path for key, alike in files.items() if key.endswith(end) for path in alike]
        folders.append({path.rsplit("/", end.count("/"))[0] for path in paths})
    return sorted(set.intersection(*folders))


def _exists(root: str, path: str) -> bool:
    return os.path.lexists(f"{root}/{path}")


def _inside(name: str, root: str) -> str:
    """Return the path below the root that a name means, "" when it leads out of it."""
    if "\0" in name or "://" in name or _DRIVE.match(name):
        return ""
    # A list from Windows has backslashes alone; beside slashes they are a part of the name.
    path = name if "/" in name else name.replace("\\", "/")
    path = os.path.normpath(path if path.startswith("/") else f"{root}/{path}")
    return path[len(root) + 1 :] if path.startswith(f"{root}/") else ""


def _files_below(root: str) -> dict[str, list[str]]:
    """Return all files that are not hidden by their paths, with and without the suffix."""
    by_path: dict[str, list[str]] = collections.defaultdict(list)
    for folder, folders, names in os.walk(root) if root else ():  # not through the whole machine
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        inside = folder[len(root) + 1 :]
        for file in names:
            if not is_hidden(file):
                path = f"{inside}/{file}".lstrip("/")
                key = _as_written(path)
                for written in {key, posixpath.splitext(key)[0]}:
                    by_path[written].append(path)
    return by_path


_EXPECTED = "expected a .csv with the columns path,label[,split,group], or a .jsonl of those"
_MAX_PATH, _MAX_NAME = 4096, 64  # characters; the first is the limit of Linux
_MAX_COLUMNS = 200  # rows of JSON may have different keys, so that a table may be very large


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
        root = self._root()
        if not root.is_dir():
            raise ConfigError(
                f"data.root: expected the folder of the images that {self.file} lists. "
                f"Received: {root}, which is not a folder"
            )
        rows, notes = self._rows()
        paths = find_files(dict.fromkeys(row.name for row in rows), str(root))
        places: dict[tuple[str, str], list[_Row]] = collections.defaultdict(list)
        for row in rows:
            path = paths[row.name]
            refused = _refusal(row.name, path, root)
            if refused:
                # Refused rows may name the same file; each is rejected as an item of its own.
                name = row.name.replace("\\", "/").rstrip("/.").rpartition("/")[2] or "unnamed"
                path = f"row-{row.number.zfill(6)}/{name[-_MAX_NAME:]}"
            places[path, refused and REFUSED + refused].append(row)
        notes += [
            noted("listed_twice", path, f"in rows {join_names([row.number for row in same])}")
            for (path, _), same in places.items()
            if len(same) > 1
        ]
        labels = {row.said[TWO_LABELS] for row in rows} - {""}
        tables.check_single_labels(self.file, labels, self.options.classes)
        items = [_item(path, locator, same) for (path, locator), same in places.items()]
        scan = listed(self.file, items, _EXPECTED, self.options.least_classes, notes, labels)
        if not any(path and os.path.lexists(root / path) for path in paths.values()):
            raise self._nothing_found(root, paths)
        return scan

    def _nothing_found(self, root: Path, paths: Mapping[str, str]) -> ConfigError:
        """Say that no file is there, and which folder below has the first and the last of them."""
        listed_names = list(paths)
        first, last = listed_names[0], listed_names[-1]
        shown = _refusal(first, paths[first], root) or repr(first)
        roots = [
            str(root / folder)
            for folder in folders_with((paths[first] or first, paths[last] or last), str(root))
        ]
        readings = [Reading({"root": folder}, f"the files in {folder}") for folder in roots]
        why = (
            f"none of its {len(paths):,} files exists below {str(root)!r} (first: {shown}). Paths "
            f"start at the folder of the list, or at data.root, the folder of the images; "
            f"{tables.GUIDE}"
        )
        return SeveralReadings(self.file, self.options, why, readings)

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
            return rows, [*notes, *tables.texts_of_images(path.parent, path)]
        rows = []
        notes = []
        for name, split in tables.lists_of_splits(path).items():
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
        try:
            is_json = file.name.lower().endswith(tables.JSON_LINES)
            titles, cells = self._objects(file) if is_json else self._cells(file)
        except (OSError, ValueError) as error:
            raise tables.unreadable_table(error, str(file), _EXPECTED) from None
        path, label, split_column, group = self._columns(str(file), titles, cells)
        above = name.rpartition("/")[0]
        rows = []
        for number, row in zip(cells.index, cells.itertuples(index=False), strict=True):
            cell, group_name, label_name = (
                tables.cell_text(row[n]) if n >= 0 else "" for n in (path, group, label)
            )
            if not cell:
                raise ConfigError(f"data source {str(file)!r}, row {number}: no path; {_EXPECTED}")
            word = tables.split_cell(row[split_column]) if split_column >= 0 else ""
            word = split_word(word, f"{str(file)!r}, row {number}") if word else split
            said = {TWO_SPLITS: word, TWO_GROUPS: group_name, TWO_LABELS: label_name}
            listed_name = f"{above}/{cell}" if above else cell
            rows.append(_Row(f"{name} {number}".strip(), listed_name, said))
        used = {path, label, split_column, group}
        rest = {n: cells[n].tolist() for n in cells.columns if n not in used}
        return rows, tables.unread_columns(titles, rest)

    def _columns(
        self, where: str, titles: Sequence[str], cells: pandas.DataFrame
    ) -> tuple[int, int, int, int]:
        """Return the columns of path, label, split and group, -1 for none."""
        options = self.options
        wanted = options.image_column
        path = tables.find_column(where, titles, "path", wanted) if titles or wanted else -1
        named = [n for n in cells.columns if len(cells) and cells[n].map(_names_image).all()]
        if path < 0 and len(named) == 1:
            path = named[0]
        label = tables.find_column(where, titles, "label", options.label_column)
        group = tables.find_column(where, titles, "group", options.group_column)
        rest = {n: cells[n].tolist() for n in cells.columns if n not in (path, label, group)}
        split = tables.split_column(where, titles, rest)
        if split < 0:
            split = tables.find_column(where, titles, "split")
        rest.pop(split, None)
        if label < 0 and len(rest) == 1:
            (label,) = rest
        if path < 0 or label < 0:
            raise _no_column(where, titles, cells, "path" if path < 0 else "label")
        return path, label, split, group

    def _cells(self, path: Path) -> tuple[list[str], pandas.DataFrame]:
        """Read a table, which has no header if the path is given by the number of its column."""
        import pandas

        delimiter, (titles, _) = tables.first_rows(open_regular(path))
        _check_width(titles)
        with open_regular(path) as file:
            text = {"dtype": str, "na_filter": False, "encoding": tables.encoding(file)}
            table = pandas.read_csv(file, sep=delimiter, header=None, **text).fillna("")
        table = table.apply(lambda column: column.str.strip())
        table.index += 1
        first = table.iloc[0].tolist()
        titled = any(tables.is_usual(cell, role) for cell in first for role in ("path", "label"))
        by_number = self.options.image_column.isdecimal() or any(map(_names_image, first))
        titles = [] if by_number and not titled else first
        return titles, table[1:] if titles else table

    def _objects(self, path: Path) -> tuple[list[str], pandas.DataFrame]:
        """Read a JSON Lines file, whose columns are all keys; nested values count as empty."""
        import pandas

        objects: dict[int, dict[str, Any]] = {}
        with open_regular(path) as file, io.TextIOWrapper(file, tables.encoding(file)) as lines:
            for row, line in enumerate(lines, 1):
                try:
                    value = json_object.parse(line) if line.strip() else {}
                except ValueError as error:
                    where = f"data source {str(path)!r}, row {row}"
                    raise ConfigError(f"{where}: {error}; {_EXPECTED}") from None
                if value:
                    objects[row] = value
        titles = list(dict.fromkeys(key for value in objects.values() for key in value))
        _check_width(titles)
        rows = [[_text(value.get(title)) for title in titles] for value in objects.values()]
        return titles, pandas.DataFrame(rows, index=list(objects), columns=range(len(titles)))


def _no_column(
    where: str, titles: Sequence[str], cells: pandas.DataFrame, role: str
) -> ConfigError:
    """Say that the column of the path or the label is missing, and show what there is."""
    columns = join_names(titles or [str(n) for n in cells.columns], 12)
    first = join_names(cells.iloc[0].tolist() if len(cells) else ["none"], 12)
    return ConfigError(
        f"data source {where!r} has no column for the {role}. Its columns are {columns}; its first "
        f"row is {first}. Name the column of the {role} by data.{tables.SETTINGS[role]}; if there "
        f"is none, {tables.GUIDE}"
    )


def _check_width(titles: Sequence[str]) -> None:
    if len(titles) > _MAX_COLUMNS:
        raise ValueError(f"it has {len(titles):,} columns")


def _text(value: Any) -> str:
    """Return a JSON value as text; null and objects are "", and several values are JSON."""
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None or isinstance(value, dict) else str(value).strip()


def _names_image(cell: str) -> bool:
    return file_names.is_image(tables.cell_text(cell))


def _refusal(raw: str, path: str, root: Path) -> str:
    """Say why a file must not be read, whose path below the root is "" if it leads out of it."""
    if len(raw) > _MAX_PATH:
        return f"{raw[:_MAX_NAME]!r}… has {len(raw):,} characters, more than a path may have"
    if path:
        return ""
    if "://" in raw:
        return f"{raw!r} is a URL; only files are read"
    if _DRIVE.match(raw) or (raw.startswith("/") and not os.path.lexists(raw)):
        return f"{raw!r} is a path of another machine"
    return f"{raw!r} leads out of {str(root)!r}; set data.root to the folder of all files"


#: Before the tables of pixels, since a .csv with a column of paths is a list of files.
KINDS = (SourceKind("manifest", ListSource, tables.lists_files, order=20),)
