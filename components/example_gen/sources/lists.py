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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgpipe.components.example_gen.sources import local_files
from imgpipe.components.example_gen.sources.base import (
    REFUSED,
    HashedSource,
    Item,
    Kind,
    Note,
    Scan,
    SourceOptions,
)
from imgpipe.components.example_gen.sources.tree import (
    listed,
    some,
    split_word,
)
from imgpipe.components.image_record import TWO_GROUPS, TWO_LABELS, TWO_SPLITS
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular

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
_SUFFIXES = (".jpg", ".jpeg", ".png")  # of files that a list names without one
_EXPECTED = (
    "expected a .csv with the columns path,label[,split,group], or a .jsonl of those; name other "
    "columns by data.path_column and data.label_column"
)
_MIN_PIXELS = 4  # two by two
_LINE_LIMIT = 1 << 26  # characters of one of the first lines; 2048 x 2048 RGB pixels take 50 MB


def lists_files(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names a list of files: JSON Lines, or a table with a path column."""
    path = Path(locator).expanduser()
    if locator.lower().endswith(_JSON):
        return True
    if not locator.lower().endswith(_TABLE) or not path.is_file():
        return False
    if options.path_column:
        return True
    try:
        _, rows = first_rows(path)
    except OSError:
        return False
    if rows[0][:1] and rows[0][0].startswith("\ufffd\ufffd"):  # UTF-16, which is refused by name
        return True
    titles = [cell.lower() for cell in rows[0]]
    place = next((titles.index(name) for name in _USUAL["path"] if name in titles), -1)
    if place < 0 or titles[place] not in _VAGUE:
        return place >= 0
    others = [cell for number, cell in enumerate(rows[1]) if number != place]
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
            + f"name it by data.{usual[0]}_column"
        )
    return -1


@dataclass
class _Entry:
    """All rows of a list for one file."""

    path: str
    locator: str
    labels: dict[str, int] = field(default_factory=dict)  # first row by label
    splits: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)

    def item(self) -> Item:
        """Create the item, with a problem when the rows contradict each other."""
        # The label comes last, because a person may correct it, and the others would remain.
        said = ((TWO_SPLITS, self.splits), (TWO_GROUPS, self.groups), (TWO_LABELS, self.labels))
        problems = [
            f"{reason}: listed as " + " and ".join(f"{v!r} (row {n})" for v, n in found.items())
            for reason, found in said
            if len(found) > 1
        ]
        label, split, group = (
            next(iter(found)) if len(found) == 1 else None
            for found in (self.labels, self.splits, self.groups)
        )
        problem = problems[0] if problems else ""
        return Item(self.path, label, split, group=group, problem=problem, locator=self.locator)


@dataclass(frozen=True)
class ListSource(HashedSource):
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
        rows = list(self._rows())
        if _are_whole((values["label"] for _, values in rows), self.options.classes):
            for _, values in rows:
                values["label"] = without_decimals(values["label"])
        suffix = _suffix(root, next((values["path"] for _, values in rows), ""))
        entries: dict[str, _Entry] = {}
        for row, values in rows:
            if not values["path"]:
                raise self._wrong(row, f"no path; {_EXPECTED}")
            path, refused = _below(values["path"] + suffix, root)
            # Refused rows may name the same file; each is rejected as an item of its own.
            path = f"row-{row:06d}/{path}" if refused else path
            entry = entries.setdefault(path, _Entry(path, REFUSED + refused if refused else ""))
            entry.rows.append(row)
            if values["label"]:
                entry.labels.setdefault(values["label"], row)
            if word := values["split"]:
                entry.splits.setdefault(split_word(word, f"{self.file!r}, row {row}"), row)
            if values["group"]:
                entry.groups.setdefault(values["group"], row)
        notes = [
            Note("listed_twice", entry.path, f"in rows {some([str(row) for row in entry.rows])}")
            for entry in entries.values()
            if len(entry.rows) > 1
        ]
        items, least = [entry.item() for entry in entries.values()], self.options.least_classes
        labels = {values["label"] for _, values in rows if values["label"]}
        scan = listed(self.file, items, _EXPECTED, least, notes, labels)
        paths = [entry.path for entry in entries.values() if not entry.locator]
        if paths and all(_is_missing(root / path) for path in paths):
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
            local_files.check_inside(root / item.path, root)
        try:
            return local_files.read_bytes(root / item.path)
        except FileNotFoundError as error:  # the list and `data.root` decide where it should be
            raise OSError(f"{root / item.path}: {error.strerror}") from None

    def _root(self) -> Path:
        if self.options.root:
            return Path(self.options.root).expanduser().absolute()
        return Path(self.file).expanduser().absolute().parent

    def _wrong(self, row: int, what: str) -> ConfigError:
        return ConfigError(f"data source {self.file!r}, row {row}: {what}")

    def _rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield number and values by role ("" where empty) of each row; ConfigError if invalid."""
        path = Path(self.file).expanduser()
        try:
            yield from (self._objects if self.file.lower().endswith(_JSON) else self._cells)(path)
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"data source {self.file!r} is not UTF-8 text (byte {error.start}); save it as such"
            ) from None
        except ValueError as error:
            raise ConfigError(
                f"data source {self.file!r} is not a CSV file: {str(error).strip()}"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"data source {self.file!r} cannot be read: {error.strerror}; {_EXPECTED}"
            ) from None

    def _cells(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        import pandas

        delimiter, _ = first_rows(path)
        text = {"dtype": str, "na_filter": False, "encoding": "utf-8-sig"}
        with open_regular(path) as file:
            table = pandas.read_csv(file, sep=delimiter, header=None, **text).fillna("")
        rows = [[cell.strip() for cell in row] for row in table.itertuples(index=False)]
        numbered = self.options.path_column.isdecimal()  # then the file may have no header
        columns = self._columns([] if numbered else rows[0])
        for number, cells in enumerate(rows, 1):
            values = {r: cells[n] if 0 <= n < len(cells) else "" for r, n in columns.items()}
            titles = (values[role].lower() in _USUAL[role] for role in ("path", "label"))
            if number > 1 or (numbered and not any(titles)):
                yield number, values

    def _objects(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        with io.TextIOWrapper(open_regular(path), "utf-8-sig") as file:
            for row, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise self._wrong(row, f"not JSON ({error}); {_EXPECTED}") from None
                if not isinstance(value, dict):
                    expected = "expected an object with path and label. Received: "
                    raise self._wrong(row, expected + line.strip()[:80])
                keys = list(value)
                found = {r: keys[n] for r, n in self._columns(keys, True).items() if n >= 0}
                values = dict.fromkeys(_USUAL, "")
                for role, key in found.items():
                    if not isinstance(value[key], list | dict):
                        values[role] = _text(value[key])
                    elif role in ("path", "label") or getattr(self.options, f"{role}_column"):
                        raise self._wrong(
                            row,
                            f"expected text or a number as the {role}. Received: "
                            f"{json.dumps(value[key])[:80]}",
                        )
                yield row, values

    def _columns(self, header: Sequence[str], sparse: bool = False) -> dict[str, int]:
        """Return the columns by role, -1 for none; with `sparse`, named ones may be absent."""
        wanted = {role: getattr(self.options, f"{role}_column") for role in _USUAL}
        return {
            role: column(
                self.file,
                header,
                name,
                _USUAL[role],
                required=role == "path" or (role == "label" and not sparse),
            )
            for role, name in wanted.items()
            if role == "path" or not sparse or not name or name in header
        }


def _is_missing(file: Path) -> bool:
    """Whether there is no such file; a file that cannot be examined may exist."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null character
        return True
    except OSError:
        return False
    return False


def _suffix(root: Path, first: str) -> str:
    """Return the suffix that a list leaves out, judged by its first file; "" for none."""
    if not first or Path(first).suffix or not _is_missing(root / first):
        return ""
    return next((one for one in _SUFFIXES if not _is_missing(root / f"{first}{one}")), "")


def without_decimals(label: str) -> str:
    """Return a numeric label without the decimals that spreadsheets add: "3.0" becomes "3"."""
    return label[:-2] if re.fullmatch(r"\d+\.0", label) else label


def _are_whole(labels: Iterable[str], classes: Sequence[str]) -> bool:
    """Whether spreadsheets added the decimals of labels: not in 1.0 beside 1.5, or in a class."""
    decimals = [label for label in labels if re.fullmatch(r"\d+\.\d+", label)]
    whole = all(without_decimals(label) != label for label in decimals)
    return bool(decimals) and whole and not any(name.endswith(".0") for name in classes)


def _text(value: Any) -> str:
    """Return a JSON value as text; null is "", and 3.0 is "3"."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
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
