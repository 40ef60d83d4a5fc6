"""CSV files of pixels as a source: each row holds an image, as a label and grey or RGB values.

This is the layout of sign-language MNIST, with or without a header, for square images of any size.
A row is converted to PNG when it is read, so that it is handled like every other image.
"""

from __future__ import annotations

import csv
import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.common.image_file.file_names import is_image, without_ending
from imgpipe.components.example_gen.sources import tables
from imgpipe.components.example_gen.sources.images import Item, Listing, Reader, check_inside
from imgpipe.components.example_gen.sources.tables import SourceRow, SourceTable
from imgpipe.components.example_gen.sources.walk import note_beside, visible_below
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.settings.data import DataSettings

if TYPE_CHECKING:
    import numpy as np

_ROLES = ("label", "split", "group")
#: Names of columns that number the rows; pandas writes one without a name.
_NUMBERS = ("id", "index", "", "unnamed: 0")
_EXPECTED = "expected a .csv with a label and width × height pixels (0 to 255) in every row"
_HEAD = 1 << 26  # most bytes of two rows; 2048 x 2048 RGB pixels take 50 MB
_SMALLEST = 4  # pixels of a side
_OTHERS = 5  # most columns besides the pixels, and one
_VALUES_AT_ONCE = 1 << 21  # values of a table that are read at once


def size_of_pixels(head: bytes) -> str:
    """Return the size of the images in the rows of a table, such as "28 x 28"; "" for none.

    Args:
        head: The beginning of the table, with two rows.
    """
    first, second = _first_rows(head.decode("utf-8-sig", "replace").splitlines())
    if any(is_image(cell) or tables.is_usual(cell, "name") for cell in (*first, *second)):
        return ""  # a list, with a column of paths
    count = sum(map(_is_value, second or first))
    # Some columns may hold a label, a split, a group and a number of the row.
    shape = next(filter(None, (_square(count - others) for others in range(_OTHERS))), ())
    return f"{shape[0]} x {shape[1]}" if shape else ""


def _first_rows(lines: Sequence[str]) -> list[list[str]]:
    """Return the cells of the first two rows; [] where there is none."""
    csv.field_size_limit(_HEAD)
    try:
        rows = [*csv.reader(lines[:2], delimiter=_delimiter(lines))]
    except csv.Error:
        rows = []
    stripped = [[cell.strip() for cell in row] for row in rows]
    return [*stripped, [], []][:2]


def _delimiter(lines: Sequence[str]) -> str:
    return max(",\t;", key=lines[0].count) if lines else ","


def _is_value(cell: str) -> bool:
    try:
        return 0 <= float(cell) <= 255
    except ValueError:
        return False


def _square(count: int) -> tuple[int, ...]:
    """Shape of a square image of `count` values, () when there is none."""
    for shape in ((), (3,)):
        side = math.isqrt(max(count, 0) // math.prod(shape))
        if side >= _SMALLEST and side * side * math.prod(shape) == count:
            return (side, side, *shape)
    return ()


def holds_pixels(file: Path) -> bool:
    """Whether a file is a table of pixels by its first rows."""
    try:
        with open_regular(file) as stream:
            return bool(size_of_pixels(b"".join(stream.readline(_HEAD) for _ in range(2))))
    except OSError:
        return False


def tables_in(folder: Path) -> list[Path]:
    """Return the tables of pixels directly in a folder, unless a folder in it holds images."""
    files = [file for file in sorted(folder.glob("*.[cC][sS][vV]")) if holds_pixels(file)]
    if files and any("/" in path and is_image(path) for path in visible_below(folder)):
        return []
    return files


def list_pixels(spec: str, options: DataSettings) -> Listing:
    """List the rows of a table of pixels, or of those in a folder.

    Raises:
        ConfigError: A table cannot be read, or rows cannot be used.
    """
    place = Path(spec).expanduser().absolute()
    folder = place if place.is_dir() else place.parent
    files = tables_in(folder) if place.is_dir() else [place]
    listing = Listing(spec, _PixelReader(str(folder), options), _EXPECTED)
    read = []
    for file in files:
        try:
            if place.is_dir() and not options.follow_links:
                check_inside(file, folder)
            read.append(SourceTable(file.name, _pixels(str(file), options)[1]))
        except (OSError, ValueError) as error:
            raise tables.not_read(str(file), error) from None
    if place.is_dir():
        note_beside(listing.notes, folder, files)
    tables.add_rows(listing, tables.with_splits_of_names(spec, read), options)
    return listing


@dataclass(frozen=True)
class _PixelReader(Reader):
    """Reads rows as PNG; the part of an item is `row:file`."""

    folder: str
    options: DataSettings

    def _read(self, item: Item) -> bytes:
        from PIL import Image

        row, _, name = item.part.partition(":")
        images, _ = _pixels(str(Path(self.folder, name)), self.options)
        out = io.BytesIO()
        Image.fromarray(images[int(row)]).save(out, "PNG")
        return out.getvalue()


def _pixels(path: str, options: DataSettings) -> tuple[np.ndarray, list[SourceRow]]:
    """Return what `_read_table` reads of a file as it is now."""
    status = Path(path).stat()
    return _read_table(path, options, (status.st_mtime_ns, status.st_size, status.st_ino))


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table hold what.

    Attributes:
        delimiter: What divides the cells.
        header: Number of rows before the first image.
        roles: Columns of label, split and group; -1 for none.
        pixels: Columns of the pixels.
        shape: Shape of an image, [side, side] or [side, side, 3].
    """

    delimiter: str
    header: int
    roles: Sequence[int]
    pixels: Sequence[int]
    shape: Sequence[int]


def _columns(path: str, options: DataSettings) -> _Columns:
    """Find the columns of a table; one without square images is a ConfigError."""
    with open_regular(Path(path)) as file:
        lines = [file.readline(_HEAD).decode("utf-8-sig") for _ in range(2)]
    first, second = _first_rows(lines)
    header = _is_header(first, second, options)
    sample, titles = (second, first) if header else (first, [])
    label, *others = tables.find_columns(path, titles, options, _ROLES).values()
    label = max(label, 0) if not titles else label
    lower = [title.lower() for title in titles]
    # Several columns without a name are pixels.
    numbers = {title for title in _NUMBERS if title or lower.count(title) == 1}
    taken = {label, *others}
    taken |= {n for n, title in enumerate(lower) if title in numbers and n != label}
    pixels = [number for number in range(len(sample)) if number not in taken]
    shape = _square(len(pixels))
    if not shape or (titles and not all(tables.is_number(sample[number]) for number in pixels)):
        why = (
            f"it has {len(titles or sample)} columns, which are neither names of images nor the "
            f"pixels of a square one; {_EXPECTED}. Name the column of the label by "
            "data.label_column, or that of the paths of a list by data.image_column"
        )
        raise tables.not_read(path, why, titles, sample)
    return _Columns(_delimiter(lines), int(header), (label, *others), pixels, shape)


@functools.lru_cache(8)
def _read_table(
    path: str, options: DataSettings, _: tuple[int, ...]
) -> tuple[np.ndarray, list[SourceRow]]:
    """Read a table: images, uint8 [rows, *shape], and their rows.

    The path of a row has the number of its line. A table without square images is a ConfigError.
    """
    import numpy as np
    import pandas

    name = Path(path).name
    columns = _columns(path, options)
    width = len(columns.pixels)
    kept: list[np.ndarray] = []
    rows: list[SourceRow] = []
    with open_regular(Path(path)) as file:
        parts = pandas.read_csv(
            file,
            sep=columns.delimiter,
            header=None,
            skiprows=columns.header,
            encoding="utf-8-sig",
            dtype={number: str for number in columns.roles if number >= 0},
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
            chunksize=max(_VALUES_AT_ONCE // width, 1),
        )
        for part in parts:
            cells = part[columns.pixels].apply(pandas.to_numeric, errors="coerce")
            values = cells.to_numpy(np.float64)
            right = ((values >= 0) & (values <= 255) & (values % 1 == 0)).all(axis=1)
            kept.append(np.where(right[:, None], values, 0).astype(np.uint8))
            empty = [""] * len(part)
            texts = (part[n].fillna("").str.strip() if n >= 0 else empty for n in columns.roles)
            for is_right, *said in zip(right.tolist(), *texts, strict=True):
                number = len(rows)
                line = 1 + columns.header + number
                image = f"{without_ending(name)}/{line:07d}.png"
                item = Item(image, part=f"{number}:{name}")
                if not is_right:
                    why = f"expected {width} pixels, each a whole number from 0 to 255"
                    item = Item.unreadable(image, why)
                rows.append(SourceRow(f"line {line}", item, *said))
    return np.concatenate(kept).reshape(-1, *columns.shape), rows


def _is_header(first: Sequence[str], second: Sequence[str], options: DataSettings) -> bool:
    """Whether the first row holds a usual title or that of the label, or a word above a number."""
    words = {cell for cell in first if not tables.is_number(cell)}
    titled = (tables.is_usual(cell, role) for cell in words for role in _ROLES)
    if options.label_column in words or any(titled):
        return True
    columns = zip(first, second, strict=False)
    return any(cell in words and tables.is_number(below) for cell, below in columns)
