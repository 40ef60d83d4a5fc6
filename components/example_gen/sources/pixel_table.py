"""CSV files of pixels as a source: each row holds an image, as a label and grey or RGB values.

This is the layout of sign-language MNIST, with or without a header, for square images of any size.
A row is converted to PNG when it is read, so that it is handled like every other image.
"""

from __future__ import annotations

import collections
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.example_gen.sources import local_files
from imgpipe.components.example_gen.sources.base import Item, Kind, Scan, SourceOptions
from imgpipe.components.example_gen.sources.file_list import column_index, without_decimals
from imgpipe.components.example_gen.sources.hashing import HashedSource
from imgpipe.components.example_gen.sources.layout import (
    SPLIT_WORDS,
    require_all_named,
    some,
    split_in,
)
from imgpipe.components.example_gen.sources.tree import listed
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular

_SUFFIX = ".csv"
#: Usual names of the label's column. FER-2013 has the columns emotion, pixels (all of an image in
#: one cell, separated by spaces) and Usage, which is the split.
_LABELS = ("label", "class", "target", "emotion", "y")
_SPLITS = ("usage", "split")
_GROUPS = ("group", "group_id")
#: Names of columns that number the rows. A table that was written by pandas has one without a name.
_NUMBERS = ("id", "index", "", "unnamed: 0")
_EXPECTED = "expected a .csv with a label and width × height pixels (0 to 255) in every row"
_ONE_SPLIT = "expected one of train, validation and test at most; rename it"
_MIN_PIXELS = 4  # two by two
_LINE_LIMIT = 1 << 26  # bytes; a row of 2048 x 2048 RGB pixels has 50 MB
_BOM = b"\xef\xbb\xbf"
_QUOTES = b' "\r\n'


def takes(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names a CSV file, or a folder that holds only CSV files."""
    path = Path(locator).expanduser()
    if path.is_dir():
        found = local_files.visible(path)
        return bool(found) and all(entry.name.lower().endswith(_SUFFIX) for entry in found)
    return locator.lower().endswith(_SUFFIX)


@dataclass(frozen=True)
class _Layout:
    """The layout of the rows of one file; columns are counted from 0."""

    header: bool
    delimiter: bytes
    columns: int
    label: int
    split: int  # -1 for none
    group: int
    side: int  # pixels
    channels: int  # 1 or 3
    spaced: int  # column that holds all pixels separated by spaces, -1 for one column each
    roles: frozenset[int]  # columns that hold no pixels


@local_files.cached_until_changed(64)
def _layout(path: str, options: SourceOptions) -> _Layout:
    """Find the layout from the first two rows; ConfigError when they hold no square image."""
    with open_regular(Path(path)) as file:
        lines = local_files.lines(file, _LINE_LIMIT, lambda line: _too_long(path, line))
        first, second = next(lines, b"").removeprefix(_BOM), next(lines, b"")
    delimiter = max((b",", b";", b"\t"), key=first.count)
    cells = _cells(first, delimiter)
    header = _is_header(cells, options) or (
        # A single word may be the label of an image. It is in a header if only numbers follow.
        sum(not _is_number(cell) for cell in cells) == 1 < len(cells)
        and _is_number_row(second, delimiter)
    )
    sample = _cells(second, delimiter) if header else cells
    titles = [cell.decode("utf-8", "replace") for cell in cells] if header else []
    label = column_index(path, titles, options.label_column, _LABELS, required=False)
    split = column_index(path, titles, options.split_column, _SPLITS, required=False)
    group = column_index(path, titles, options.group_column, _GROUPS, required=False)
    roles = {max(label, 0), split, group} - {-1}  # an unnamed label is in the first column
    if label >= 0:
        lower = [title.strip().lower() for title in titles]
        # Several columns without a name are pixels.
        named = {name for name in _NUMBERS if name or lower.count(name) == 1}
        roles |= {n for n, title in enumerate(lower) if title in named}
    values = [column for column in range(len(sample)) if column not in roles]
    spaced = values[0] if len(values) == 1 and b" " in sample[values[0]] else -1
    count = len(sample[spaced].split()) if spaced >= 0 else len(values)
    side, channels = _square(count)
    numbers = sum(_is_number(sample[column]) for column in values)
    if titles and spaced < 0 and (numbers < len(values) or numbers < _MIN_PIXELS):
        raise ConfigError(
            f"data source {path!r}: found the columns {some(titles)} and no pixels. Where it lists "
            "image files, name its columns by data.path_column and data.label_column, and the "
            f"folder of the files by data.root; for pixels {_EXPECTED}"
        )
    if not side:
        found = f"{len(sample)} columns, {count} of them pixels" if sample[0] else "no row"
        raise ConfigError(
            f"data source {path!r}: found {found}, which is neither a square nor three times one; "
            f"{_EXPECTED}; name other columns by data.label_column, split_column, group_column"
        )
    columns, taken = len(sample), frozenset(roles)
    label = max(label, 0)
    return _Layout(header, delimiter, columns, label, split, group, side, channels, spaced, taken)


def _is_header(cells: Sequence[bytes], options: SourceOptions) -> bool:
    """Whether the first row holds the name of a column, or several words that are no roles."""
    given = (options.label_column, options.split_column, options.group_column)
    usual = {*_LABELS, *_SPLITS, *_GROUPS}
    names = {*usual, *(name.lower() for name in given if not name.isdecimal())} - {""}
    words = {
        number: cell.decode("utf-8", "replace").lower()
        for number, cell in enumerate(cells)
        if not _is_number(cell)
    }
    # Columns that are given by their number may hold words in each row.
    others = words.keys() - {int(name) for name in given if name.isdecimal()}
    return len(others) > 1 or any(word in names for word in words.values())


def _too_long(path: str, line: int) -> ConfigError:
    return ConfigError(
        f"data source {path!r}, line {line}: longer than {_LINE_LIMIT >> 20} MiB; {_EXPECTED}"
    )


def _cells(line: bytes, delimiter: bytes) -> list[bytes]:
    return [cell.strip(_QUOTES) for cell in line.strip(b"\r\n").split(delimiter)]


def _is_number(cell: bytes) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_number_row(line: bytes, delimiter: bytes) -> bool:
    return bool(line.strip()) and all(_is_number(cell) for cell in _cells(line, delimiter))


def _square(count: int) -> tuple[int, int]:
    """(side, channels) of a square image of `count` values, (0, 0) when there is none."""
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if side > 1 and side * side * channels == count:
            return side, channels
    return 0, 0


@dataclass(frozen=True)
class PixelSource(HashedSource):
    """One CSV file, or a folder of them (named after splits: sign_mnist_train.csv)."""

    locator: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Find the rows and their labels; see `Source.listing`.

        Raises:
            ConfigError: The table cannot be read, or has no rows of pixels.
        """
        return listed(self.locator, self._all_rows(), _EXPECTED, self.options.least_classes)

    def read(self, item: Item) -> bytes:
        """Read one row as PNG; see `Source.read`."""
        offset, length, name = item.locator.split(":", 2)
        path = Path(self.locator).expanduser()
        file = (path if path.is_dir() else path.parent) / name
        layout = _layout(str(file), self.options)
        with open_regular(file) as stream:
            line = os.pread(stream.fileno(), int(length), int(offset))
        return _png(_values(line, layout), layout)

    def _files(self) -> list[Path]:
        path = Path(self.locator).expanduser()
        if path.is_dir():
            found = sorted(local_files.visible(path))
            files = [file for file in found if file.name.lower().endswith(_SUFFIX)]
            local_files.check_all(self.locator, files, path, self.options.follow_links)
            if files:
                return files
            raise ConfigError(f"data source {self.locator!r} holds no .csv; {_EXPECTED}")
        if not path.is_file():
            raise ConfigError(f"data source {self.locator!r} does not exist; {_EXPECTED}")
        return [path]

    def _all_rows(self) -> Iterator[Item]:
        files = self._files()
        stems = collections.Counter(file.stem for file in files)
        named: dict[str, str | None] = {}
        for file in files:
            folder = file.stem if stems[file.stem] == 1 else file.name
            split = split_in(file.name, _ONE_SPLIT) if len(files) > 1 else None
            try:
                for item in self._rows(file, folder, split):
                    if item.split == split:
                        named[file.name] = split
                    yield item
            except OSError as error:
                raise ConfigError(
                    f"data source {str(file)!r} cannot be read: {error.strerror or error}"
                ) from None
        require_all_named(self.locator, named)

    def _rows(self, file: Path, folder: str, split: str | None) -> Iterator[Item]:
        """One item for each row; its path has the number of the line in a folder of the table."""
        layout = _layout(str(file), self.options)
        offset = 0
        with open_regular(file) as stream:
            lines = local_files.lines(stream, _LINE_LIMIT, lambda line: _too_long(str(file), line))
            for number, line in enumerate(lines, 1):
                start, offset = offset, offset + len(line)
                if number == 1 and line.startswith(_BOM):
                    start, line = start + len(_BOM), line.removeprefix(_BOM)
                if not line.strip() or (number == 1 and layout.header):
                    continue
                cells = line.split(layout.delimiter)
                word = _cell(cells, layout.split)
                yield Item(
                    f"{folder}/{number:07d}.png",
                    without_decimals(_cell(cells, layout.label)) or None,
                    self._split_name(word, file, number) if word else split,
                    group=_cell(cells, layout.group) or None,
                    locator=f"{start}:{len(line)}:{file.name}",
                )

    def _split_name(self, word: str, file: Path, number: int) -> str:
        try:
            return SPLIT_WORDS[word.lower()]
        except KeyError:
            raise ConfigError(
                f"data source {str(file)!r}, line {number}: split {word!r}; expected train, "
                "validation or test"
            ) from None


def _cell(cells: Sequence[bytes], column: int) -> str:
    if not 0 <= column < len(cells):
        return ""
    return cells[column].strip(_QUOTES).decode("utf-8", "replace")


def _values(line: bytes, layout: _Layout) -> bytes:
    """Return the pixels of a row; OSError when they do not match the layout of the first rows."""
    cells = _cells(line, layout.delimiter)
    if len(cells) != layout.columns:
        raise OSError(f"{len(cells)} columns, expected {layout.columns}")
    if layout.spaced >= 0:
        values = cells[layout.spaced].split()
    else:
        values = [cell for column, cell in enumerate(cells) if column not in layout.roles]
    expected = layout.side * layout.side * layout.channels
    if len(values) != expected:
        raise OSError(f"{len(values)} pixels, expected {expected}")
    try:
        return bytes(map(int, values))  # fast; the other way accepts 12.0 and names a wrong pixel
    except ValueError:
        return bytes(_pixel(value) for value in values)


def _pixel(value: bytes) -> int:
    """Parse a pixel that is not written as an integer, such as 12.0."""
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not (0 <= number <= 255 and number.is_integer()):
        shown = value.decode("utf-8", "replace")
        raise OSError(f"pixel {shown!r}; expected a whole number from 0 to 255")
    return int(number)


def _png(values: bytes, layout: _Layout) -> bytes:
    from PIL import Image

    size = (layout.side, layout.side)
    out = io.BytesIO()
    Image.frombytes("L" if layout.channels == 1 else "RGB", size, values).save(out, "PNG")
    return out.getvalue()


KINDS = (Kind("csv", PixelSource, takes, order=30),)
