"""CSV files of pixels as a source: each row holds an image, as a label and grey or RGB values.

This is the layout of sign-language MNIST, with or without a header, for square images of any size.
A row is converted to PNG when it is read, so that it is handled like every other image.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.common.splits import split_word
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import local_files, tables
from imgpipe.components.example_gen.sources.base import (
    REFUSED,
    Item,
    Scan,
    Source,
    SourceKind,
    listed_files,
)
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular

if TYPE_CHECKING:
    import numpy as np

_ROLES = ("label", "split", "group")
#: Names of columns that number the rows; pandas writes one without a name.
_NUMBERS = ("id", "index", "", "unnamed: 0")
_EXPECTED = "expected a .csv with a label and width × height pixels (0 to 255) in every row"
_VALUES_AT_ONCE = 1 << 24  # values of a table that are read at once


def holds_pixels(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names a CSV file, or a folder that holds only CSV files."""
    path = Path(locator).expanduser()
    if path.is_dir():
        entries = local_files.visible(path)
        return bool(entries) and all(entry.name.lower().endswith(".csv") for entry in entries)
    return locator.lower().endswith(".csv")


@dataclass(frozen=True)
class _Pixels:
    """The images of one table.

    Attributes:
        images: The pixels, uint8 [rows, side, side] or [rows, side, side, 3].
        readable: Whether the pixels of each row are whole numbers from 0 to 255.
        roles: Label, split and group of each row, "" where there is none.
        line: Line of the first row.
    """

    images: np.ndarray
    readable: list[bool]
    roles: list[tuple[str, ...]]
    line: int


@local_files.cached_until_changed(8)
def _pixels(path: str, options: SourceOptions) -> _Pixels:
    """Read a table; ConfigError when its rows hold no square images."""
    import numpy as np
    import pandas

    delimiter, (first, second) = tables.first_rows(open_regular(Path(path)))
    header = _is_header(first, second, options)
    sample, titles = (second, first) if header else (first, [])
    roles = [*tables.find_columns(path, titles, options, _ROLES).values()]
    roles[0] = max(roles[0], 0)  # a label without a name is in the first column
    lower = [title.lower() for title in titles]
    # Several columns without a name are pixels.
    numbers = {name for name in _NUMBERS if name or lower.count(name) == 1}
    others = {*roles, *(n for n, title in enumerate(lower) if title in numbers and n != roles[0])}
    columns = [number for number in range(len(sample)) if number not in others]
    shape = _square(len(columns))
    if not shape or (titles and not all(tables.is_number(sample[number]) for number in columns)):
        why = (
            f"it has {len(titles or sample)} columns, which are neither names of images nor the "
            f"pixels of a square one; {_EXPECTED}. Name the column of the label by "
            "data.label_column, or that of the paths of a list by data.image_column"
        )
        raise tables.not_read(path, why if sample else "it has no row", titles, sample)
    kept: list[np.ndarray] = []
    readable: list[bool] = []
    texts: list[tuple[str, ...]] = []
    with open_regular(Path(path)) as file:
        parts = pandas.read_csv(
            file,
            sep=delimiter,
            header=None,
            skiprows=int(header),
            encoding=tables.encoding(file),
            dtype={number: str for number in roles if number >= 0},
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
            chunksize=max(_VALUES_AT_ONCE // len(sample), 1),
        )
        for part in parts:
            values = part[columns].apply(pandas.to_numeric, errors="coerce").to_numpy(np.float64)
            right = ((values >= 0) & (values <= 255) & (values % 1 == 0)).all(axis=1)
            kept.append(np.where(right[:, None], values, 0).astype(np.uint8))
            readable += right.tolist()
            empty = [""] * len(part)
            cells = (part[n].fillna("").str.strip() if n >= 0 else empty for n in roles)
            texts += zip(*cells, strict=True)
    return _Pixels(np.concatenate(kept).reshape(-1, *shape), readable, texts, 1 + header)


def _is_header(first: Sequence[str], second: Sequence[str], options: SourceOptions) -> bool:
    """Whether the first row holds the name of a column, or several words that are no roles."""
    given = options.label_column
    words = {n: cell for n, cell in enumerate(first) if not tables.is_number(cell)}
    # A column that is given by its number may hold a word in each row.
    others = words.keys() - {int(given) if given.isdecimal() else -1}
    titled = (tables.is_usual(cell, role) for cell in words.values() for role in _ROLES)
    if len(others) > 1 or given in words.values() or any(titled):
        return True
    # A single word may be the label of an image. It is in a header if only numbers follow.
    return len(words) == 1 < len(first) and bool(second) and all(map(tables.is_number, second))


def _square(count: int) -> tuple[int, ...]:
    """Shape of a square image of `count` values, () when there is none."""
    for shape in ((), (3,)):
        side = math.isqrt(count // math.prod(shape))
        if side > 1 and side * side * math.prod(shape) == count:
            return (side, side, *shape)
    return ()


@dataclass(frozen=True)
class PixelSource(Source):
    """One CSV file, or a folder of them (named after splits: sign_mnist_train.csv)."""

    locator: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Read the tables; see `Source.listing`.

        Raises:
            ConfigError: A table cannot be read, or has no rows of pixels.
        """
        items = {file.name: list(self._items(file)) for file in self._files()}
        return listed_files(self.locator, items, _EXPECTED, self.options)

    def read(self, item: Item) -> bytes:
        """Read one row as PNG; see `Source.read`.

        Raises:
            OSError: The row names no image, or it cannot be read.
        """
        from PIL import Image

        if item.locator.startswith(REFUSED):
            raise OSError(item.locator[1:])
        row, _, name = item.locator.partition(":")
        path = Path(self.locator).expanduser().absolute()
        table = _pixels(str(path / name if path.is_dir() else path), self.options)
        out = io.BytesIO()
        Image.fromarray(table.images[int(row)]).save(out, "PNG")
        return out.getvalue()

    def _files(self) -> list[Path]:
        path = Path(self.locator).expanduser().absolute()
        if path.is_dir():
            entries = sorted(local_files.visible(path))
            files = [file for file in entries if file.name.lower().endswith(".csv")]
            local_files.check_all(self.locator, files, path, self.options.follow_links)
            return files
        if not path.exists():
            raise ConfigError(f"data source {self.locator!r} does not exist; {_EXPECTED}")
        return [path]

    def _items(self, file: Path) -> Iterator[Item]:
        """One item for each row; its path has the number of the line in a folder of the table."""
        try:
            table = _pixels(str(file), self.options)
        except (OSError, ValueError) as error:
            raise tables.not_read(str(file), error) from None
        count = table.images[0].size if len(table.images) else 0
        wrong = f"{REFUSED}expected {count} pixels, each a whole number from 0 to 255"
        for row, (readable, roles) in enumerate(zip(table.readable, table.roles, strict=True)):
            line = row + table.line
            label, word, group = map(tables.cell_text, roles)
            yield Item(
                f"{file.stem}/{line:07d}.png",
                label or None,
                split_word(word, f"{str(file)!r}, line {line}") if word else None,
                group=group or None,
                locator=f"{row}:{file.name}" if readable else wrong,
            )


KINDS = (SourceKind("csv", PixelSource, holds_pixels, order=30),)
