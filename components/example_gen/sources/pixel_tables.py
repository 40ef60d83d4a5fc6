"""CSV files of pixels as a source: each row holds an image, as a label and grey or RGB values.

This is the layout of sign-language MNIST, with or without a header, for square images of any size.
A row is converted to PNG when it is read, so that it is handled like every other image.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.common.image_file.file_names import without_ending
from imgpipe.components.example_gen.sources import local_files, tables
from imgpipe.components.example_gen.sources.base import Item, SourceKind
from imgpipe.components.example_gen.sources.rows import (
    REFUSED,
    RowFiles,
    SourceRow,
    SourceTable,
)
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.settings.data import DataSettings

if TYPE_CHECKING:
    import numpy as np

_ROLES = ("label", "split", "group")
#: Names of columns that number the rows; pandas writes one without a name.
_NUMBERS = ("id", "index", "", "unnamed: 0")
_EXPECTED = "expected a .csv with a label and width × height pixels (0 to 255) in every row"
_VALUES_AT_ONCE = 1 << 24  # values of a table that are read at once


def holds_pixels(locator: str, options: DataSettings) -> bool:
    """Whether a plain path names a CSV file, or a folder that holds only CSV files."""
    path = Path(locator).expanduser()
    if path.is_dir():
        entries = local_files.visible(path)
        return bool(entries) and all(entry.name.lower().endswith(".csv") for entry in entries)
    return locator.lower().endswith(".csv")


@local_files.cached_until_changed(8)
def _pixels(path: str, name: str, options: DataSettings) -> tuple[np.ndarray, list[SourceRow]]:
    """Read a table: images, uint8 [rows, side, side] or [rows, side, side, 3], and their rows.

    The path of a row has the number of its line, and its locator its number in the table of this
    name. A table without square images is a ConfigError.
    """
    import numpy as np
    import pandas

    delimiter, (first, second) = tables.first_rows(Path(path))
    header = _is_header(first, second, options)
    sample, titles = (second, first) if header else (first, [])
    roles = [*tables.find_columns(path, titles, options, _ROLES).values()]
    roles[0] = max(roles[0], 0)  # a label without a name is in the first column
    lower = [title.lower() for title in titles]
    # Several columns without a name are pixels.
    numbers = {title for title in _NUMBERS if title or lower.count(title) == 1}
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
    rows: list[SourceRow] = []
    wrong = f"{REFUSED}expected {len(columns)} pixels, each a whole number from 0 to 255"
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
            empty = [""] * len(part)
            cells = (part[n].fillna("").str.strip() if n >= 0 else empty for n in roles)
            for is_right, *texts in zip(right.tolist(), *cells, strict=True):
                number = len(rows)
                line = 1 + header + number
                image = f"{without_ending(name)}/{line:07d}.png"
                locator = f"{number}:{name}" if is_right else wrong
                rows.append(SourceRow(f"line {line}", image, locator, *texts))
    return np.concatenate(kept).reshape(-1, *shape), rows


def _is_header(first: Sequence[str], second: Sequence[str], options: DataSettings) -> bool:
    """Whether the first row holds a usual title or that of the label, or a word above a number."""
    words = {cell for cell in first if not tables.is_number(cell)}
    titled = (tables.is_usual(cell, role) for cell in words for role in _ROLES)
    if options.label_column in words or any(titled):
        return True
    columns = zip(first, second, strict=False)
    return any(cell in words and tables.is_number(below) for cell, below in columns)


def _square(count: int) -> tuple[int, ...]:
    """Shape of a square image of `count` values, () when there is none."""
    for shape in ((), (3,)):
        side = math.isqrt(count // math.prod(shape))
        if side > 1 and side * side * math.prod(shape) == count:
            return (side, side, *shape)
    return ()


class PixelSource(RowFiles):
    """One CSV file, or a folder of them (named after splits: sign_mnist_train.csv)."""

    names = re.compile(r"\.csv$", re.IGNORECASE)
    expected = _EXPECTED

    def table(self, file: Path, name: str) -> SourceTable:
        """Return the rows of a table."""
        return SourceTable(name, _pixels(str(file), name, self.options)[1])

    def read_row(self, item: Item) -> bytes:
        """Read one row as PNG; see `Source.read`."""
        from PIL import Image

        row, _, name = item.locator.partition(":")
        images, _ = _pixels(str(self.folder() / name), name, self.options)
        out = io.BytesIO()
        Image.fromarray(images[int(row)]).save(out, "PNG")
        return out.getvalue()


KINDS = (SourceKind("csv", PixelSource, holds_pixels, order=30),)
