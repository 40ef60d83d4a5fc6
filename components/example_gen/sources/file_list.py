"""A list of files as a source: CSV or JSON Lines with path, label and, optionally, split and group.

Contradictions in the list (two labels for one file) and paths that lead out of its folder become
problems of the item, with their rows. A list that cannot be parsed is refused with the row.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from imgpipe.components.example_gen.sources import local_files
from imgpipe.components.example_gen.sources.base import Item, Kind, Note, Scan, SourceOptions
from imgpipe.components.example_gen.sources.hashing import HashedSource
from imgpipe.components.example_gen.sources.items import REFUSED, Items
from imgpipe.components.example_gen.sources.layout import SPLIT_WORDS, some
from imgpipe.components.example_gen.sources.tree import checked, require_train
from imgpipe.components.image_record import TWO_GROUPS, TWO_LABELS, TWO_SPLITS
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular

#: Reasons of problems that the list causes.
_JSON = (".jsonl", ".ndjson")
_TABLE = (".csv", ".tsv")
#: Recognised names of the columns by role, in lower case.
_USUAL = {
    "path": ("path", "filepath", "file_path", "filename", "file_name", "file", "image_path"),
    "label": ("label", "class", "class_name", "category", "target"),
    "split": ("split", "set", "subset", "partition"),
    "group": ("group", "group_id"),
}
_EXPECTED = (
    "expected a .csv with the columns path,label[,split,group], or a .jsonl of those; name other "
    "columns by data.path_column and data.label_column"
)
_LINE_LIMIT = 1 << 20  # characters of one line; no row with a path and a label is longer


def takes(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names a list of files: JSON Lines, or a table with a path column."""
    path = Path(locator).expanduser()
    if locator.lower().endswith(_JSON):
        return True
    if not locator.lower().endswith(_TABLE) or not path.is_file():
        return False
    if options.path_column:
        return True
    try:
        with _text_file(path, errors="replace") as file:
            _, head = _start(iter(lambda: file.readline(_LINE_LIMIT), ""))
    except OSError:
        return False
    if head.startswith("\ufffd\ufffd"):  # the mark of UTF-16, which the list refuses by name
        return True
    return any(
        cell.strip(' "\r\n').lower() in _USUAL["path"] for cell in head.split(_delimiter(head))
    )


def _text_file(path: Path, errors: str = "strict") -> TextIOWrapper:
    """Return a regular file as UTF-8 text, with or without a byte order mark."""
    stream = open_regular(path)
    # newline="" keeps line breaks inside of quoted cells, as `csv` requires.
    return TextIOWrapper(stream, encoding="utf-8-sig", errors=errors, newline="")


def _start(lines: Iterator[str]) -> tuple[int, str]:
    """Skip empty lines and the line "sep=;" of Excel; return their number and the line below."""
    for number, line in enumerate(lines):
        if not re.fullmatch(r'("?sep=.?"?)?', line.strip(), re.IGNORECASE):
            return number, line
    return 0, ""


def _delimiter(head: str) -> str:
    return max(",\t;", key=head.count)


@dataclass
class _Entry:
    """All rows of the list for one file."""

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
        problems = [_contradiction(reason, found) for reason, found in said if len(found) > 1]
        return Item(
            self.path,
            _single(self.labels),
            _single(self.splits),
            group=_single(self.groups),
            problem=problems[0] if problems else "",
            locator=self.locator,
        )


def _single(found: dict[str, int]) -> str | None:
    """Return the value if all rows give the same one, otherwise None."""
    return next(iter(found)) if len(found) == 1 else None


def _contradiction(reason: str, found: dict[str, int]) -> str:
    return f"{reason}: listed as " + " and ".join(f"{v!r} (row {row})" for v, row in found.items())


@dataclass(frozen=True)
class ManifestSource(HashedSource):
    """A list of files on a local or mounted file system."""

    file: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Read the list but not the files; see `Source.listing`.

        Raises:
            ConfigError: The list cannot be read, or is not as expected.
        """
        entries: dict[str, _Entry] = {}
        root = self._root()
        if not root.is_dir():
            raise ConfigError(
                f"data.root: expected the folder of the images that {self.file} lists. "
                f"Received: {root}, which is not a folder"
            )
        for row, values in self._rows():
            path, refused = _below(values["path"], root)
            # Refused rows may name the same file; each is rejected as an item of its own.
            path = f"row-{row:06d}/{path}" if refused else path
            entry = entries.setdefault(path, _Entry(path, REFUSED + refused if refused else ""))
            entry.rows.append(row)
            if values["label"]:
                entry.labels.setdefault(values["label"], row)
            if values["split"]:
                entry.splits.setdefault(self._split(values["split"], row), row)
            if values["group"]:
                entry.groups.setdefault(values["group"], row)
        labels = {label for entry in entries.values() for label in entry.labels}
        if _are_whole(labels, self.options.classes):
            labels = {without_decimals(label) for label in labels}
            for entry in entries.values():
                found, entry.labels = entry.labels, {}
                for label, row in found.items():
                    entry.labels.setdefault(without_decimals(label), row)
        items = Items(entry.item() for _, entry in sorted(entries.items()))
        splits = {split for entry in entries.values() for split in entry.splits}
        notes, least = _repeated_rows(entries.values()), self.options.least_classes
        scan = checked(self.file, items, labels, splits, notes, _EXPECTED, least)
        require_train(scan, least)
        self._require_a_file(root, entries.values())
        return scan

    def read(self, item: Item) -> bytes:
        """Read one file; see `Source.read`."""
        file = self._file(item)
        with _naming(file):
            return local_files.read_bytes(file)

    def digest(self, item: Item) -> str:
        """Hash one file; see `HashedSource.digest`."""
        file = self._file(item)
        with _naming(file):
            return local_files.sha256(file)

    def _file(self, item: Item) -> Path:
        """Path of an item; OSError when its row was refused or a link leads out of the root."""
        if item.locator.startswith(REFUSED):
            raise OSError(item.locator[1:])
        root = self._root()
        if not self.options.follow_links:
            local_files.check_inside(root / item.path, root)
        return root / item.path

    def _require_a_file(self, root: Path, entries: Iterable[_Entry]) -> None:
        """ConfigError if no file of the list exists; stops at the first one that does."""
        paths = [entry.path for entry in entries if not entry.locator]
        if paths and all(_is_missing(root / path) for path in paths):
            raise ConfigError(
                f"data source {self.file!r}: none of its {len(paths):,} files exists below "
                f"{str(root)!r} (first: {paths[0]!r}). Paths start at the folder of the list, or "
                "at data.root. Use: --set data.root=FOLDER, with the folder of the images"
            )

    def _root(self) -> Path:
        if self.options.root:
            return Path(self.options.root).expanduser().absolute()
        return Path(self.file).expanduser().absolute().parent

    def _split(self, word: str, row: int) -> str:
        try:
            return SPLIT_WORDS[word.lower()]
        except KeyError:
            expected = "expected train, validation or test, or nothing where it is to be assigned"
            raise self._wrong(row, f"split {word!r}; {expected}") from None

    def _rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield number and values by role ("" where empty) of each row; ConfigError if invalid."""
        path = Path(self.file).expanduser()
        rows = self._objects(path) if self.file.lower().endswith(_JSON) else self._cells(path)
        try:
            for row, values in rows:
                if not values["path"]:
                    raise self._wrong(row, f"no path; {_EXPECTED}")
                self._check_text(row, values)
                yield row, values
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"data source {self.file!r} is not UTF-8 text (byte {error.start}); save it as such"
            ) from None
        except csv.Error as error:
            raise ConfigError(f"data source {self.file!r} is not a CSV file: {error}") from None
        except OSError as error:
            raise ConfigError(
                f"data source {self.file!r} cannot be read: {error.strerror}; {_EXPECTED}"
            ) from None

    def _check_text(self, row: int, values: dict[str, str]) -> None:
        """ConfigError for text that is not valid Unicode, such as a lone surrogate."""
        for role, text in values.items():
            try:
                # Python represents the bytes of a file name that is not UTF-8 as surrogates.
                text.encode("utf-8", "surrogateescape" if role == "path" else "strict")
            except UnicodeEncodeError as error:
                what = f"the {role} {text[:80]!a} is not valid Unicode text ({error.reason})"
                raise self._wrong(row, f"{what}; correct the row") from None

    def _too_long(self, row: int) -> ConfigError:
        return self._wrong(row, f"the line is longer than {_LINE_LIMIT >> 20} MiB; {_EXPECTED}")

    def _wrong(self, row: int, what: str) -> ConfigError:
        return ConfigError(f"data source {self.file!r}, row {row}: {what}")

    def _cells(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        with _text_file(path) as file:
            rows = local_files.lines(file, _LINE_LIMIT, self._too_long)
            skipped, head = _start(rows)
            delimiter = _delimiter(head)
            reader = csv.reader(itertools.chain([head], rows), delimiter=delimiter, strict=True)
            numbered = self.options.path_column.isdecimal()  # then the file may have no header
            header = [] if numbered else next(reader, [])
            columns, width = self._columns(header), len(header)
            for row, cells in enumerate(reader):
                number = skipped + reader.line_num  # of the line; a cell may contain line breaks
                if any(cells):
                    width = max(width or len(cells), *(n + 1 for n in columns.values()))
                    if any(cell.strip() for cell in cells[width:]):
                        raise self._wrong(
                            number,
                            f"{len(cells)} cells, but the first row has {width}; put a value that "
                            f"contains {delimiter!r} in quotation marks",
                        )
                    values = {
                        role: cells[index].strip() if 0 <= index < len(cells) else ""
                        for role, index in columns.items()
                    }
                    if not (numbered and row == 0 and self._is_title(**values)):
                        yield number, values

    def _is_title(self, path: str, label: str, **_: str) -> bool:
        """Whether a first row holds the names of the columns, not a file and its label."""
        if path.lower() in _USUAL["path"]:
            return True
        # A file without a suffix may be missing, so its label has to look like a name, too.
        named = label.lower() in _USUAL["label"] and not Path(path).suffix
        return named and _is_missing(self._root() / path)

    def _objects(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        with _text_file(path) as file:
            for row, line in enumerate(local_files.lines(file, _LINE_LIMIT, self._too_long), 1):
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
                found = {role: keys[n] for role, n in self._columns(keys, True).items() if n >= 0}
                for role, key in list(found.items()):
                    if isinstance(value[key], list | dict):
                        named = getattr(self.options, f"{role}_column")
                        if role in ("split", "group") and not named:
                            del found[role]  # the key holds something else
                            continue
                        raise self._wrong(
                            row,
                            f"expected text or a number as the {role}. Received: "
                            f"{json.dumps(value[key])[:80]}",
                        )
                yield row, {r: _text(value[found[r]]) if r in found else "" for r in _USUAL}

    def _columns(self, header: Sequence[str], sparse: bool = False) -> dict[str, int]:
        """Return the columns by role, -1 for none; with `sparse`, named ones may be absent."""
        wanted = {role: getattr(self.options, f"{role}_column") for role in _USUAL}
        return {
            role: column_index(
                self.file,
                header,
                name,
                _USUAL[role],
                required=role == "path" or (role == "label" and not sparse),
            )
            for role, name in wanted.items()
            if role == "path" or not sparse or not name or name in header
        }


def column_index(
    where: str, header: Sequence[str], wanted: str, usual: Sequence[str], required: bool
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


def _is_missing(file: Path) -> bool:
    """Whether there is no such file; a file that cannot be examined may exist."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null character
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Name a missing file, because the list and `data.root` decide where it should be."""
    try:
        yield
    except FileNotFoundError as error:
        raise OSError(f"{file}: {error.strerror}") from None


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


def _repeated_rows(entries: Iterable[_Entry]) -> Iterator[Note]:
    for entry in entries:
        if len(entry.rows) > 1:
            rows = some([str(row) for row in entry.rows])
            yield Note("listed_twice", entry.path, f"in rows {rows}")


#: Before the tables of pixels, since a .csv with a column of paths is a list of files.
KINDS = (Kind("manifest", ManifestSource, takes, order=20),)
