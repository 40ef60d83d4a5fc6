"""What all tables of images share, and which files are lists.

Lists of files, tables of pixels, TFRecord files and TensorFlow Datasets find their columns or
features here, so that all of them know the same words.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources.local_files import visible
from imgpipe.components.example_gen.sources.split_names import are_splits, split_of
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.finding import Finding

#: Usual names of columns and features by role, the surest first. Case and everything that is
#: neither a letter nor a digit are ignored: "Class Name", "class_name" and "ClassName" are one.
_USUAL = {
    "name": (
        *("path", "filepath", "filename", "file", "filepaths", "filenames", "files"),
        *("imagepath", "imgpath", "imagefile", "imagefilename", "imagename", "imgname"),
    ),
    "image": (
        *("imagebytes", "imageencoded", "image", "encodedimage", "imageraw"),
        *("jpeg", "jpg", "png", "imagedata", "img", "encoded", "bytes"),
    ),
    "label": (
        *("label", "labels", "class", "classname", "imageclasstext", "imageclasslabel"),
        *("imagelabel", "classlabel", "labelname", "classid", "category", "categoryname"),
        *("target", "y"),
    ),
    "split": ("split", "partition"),
    "group": ("group", "groupid", "groups"),
}
_USUAL["path"] = (*_USUAL["name"], "image", "img", "imageid", "imgid", "id")
#: Setting that names the column of a role.
SETTINGS = {
    "path": "image_column",
    "image": "image_column",
    "label": "label_column",
    "group": "group_column",
}
_REPEATED = 0.5  # values for each row of a column that says more than the row
_LINE_LIMIT = 1 << 26  # characters of one of the first lines; 2048 x 2048 RGB pixels take 50 MB
#: Words for an empty cell, as `pandas.read_csv` knows them. "none" and "na" in lower case may be
#: classes: no gesture, and a syllable.
_EMPTY = {"None", "NA", "", "nan", "-nan", "null", "n/a", "<na>", "#n/a", "#na"}
_BETWEEN = re.compile(r"[][\"'|;,+&/\s]+")  # characters between several labels
_SEVERAL = re.compile(r"[^\W][|;]|^\[.*[,.\s].*\]$|^[\d\s]+$")  # surely several labels
#: Where a message sends a person whose list is not read.
GUIDE = "docs/how-to/lists.md has short pandas programs that write such a list"


def _word(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def is_usual(name: str, role: str) -> bool:
    """Whether a column has a usual name for its role."""
    return _word(name) in _USUAL[role]


def find_column(where: str, titles: Sequence[str], role: str, wanted: str = "") -> int:
    """Return the index of a column or feature by its name or index, or its usual names.

    It is -1 for none. `titles` are empty where the file has no header. If the `wanted` one is
    missing, it is a ConfigError.
    """
    cells = [title.strip() for title in titles]
    words = [_word(cell) for cell in cells]
    if not wanted:
        return next((words.index(word) for word in _USUAL[role] if word in words), -1)
    if wanted in cells:
        return cells.index(wanted)
    if wanted.isdecimal() and (not cells or int(wanted) < len(cells)):
        return int(wanted)
    if words.count(_word(wanted)) == 1:
        return words.index(_word(wanted))
    there = f"; found {join_names(cells, 12)}" if cells else ""
    raise ConfigError(f"data source {where!r} has no column or feature {wanted!r}{there}")


def split_column(where: str, titles: Sequence[str], columns: Mapping[int, Sequence[str]]) -> int:
    """Return the index of the column whose cells name splits, train among them; -1 for none.

    A column in which some cells name splits, and the others are numbers of folds, is a ConfigError.
    """
    for number, cells in columns.items():
        words = {cell for cell in map(split_cell, cells) if cell}
        if are_splits(words):
            return number
        folds = sorted(filter(str.isdecimal, words))
        splits = sorted(words.difference(folds))
        if folds and splits and all(map(split_of, splits)):
            raise ConfigError(
                f"data source {where!r}: the column {titles[number] if titles else number} names "
                f"the split {join_names(splits)} in some rows, and has {join_names(folds, 4)} in "
                "others: write train, validation or test into all of them"
            )
    return -1


def split_cell(cell: str) -> str:
    """Return the word of a cell of a split, "" for none, as the tables of Google AutoML say it."""
    word = cell_text(cell)
    return "" if word.upper() == "UNASSIGNED" else word


def unread_columns(header: Sequence[str], columns: Mapping[int, Sequence[str]]) -> list[Finding]:
    """Note columns whose cells repeat, and which nothing reads, with what they may be."""
    notes = []
    for number, cells in columns.items():
        values = sorted({cell for cell in map(cell_text, cells) if cell})
        if 1 < len(values) <= _REPEATED * len(cells):
            name = header[number] if header else str(number)
            detail = f"{len(values):,} values ({join_names(values, 3)})"
            column = shlex.quote(name)
            ways = (
                f"if it says which images belong together: --set data.group_column={column}",
                f"if it is the class: --set data.label_column={column}",
                "if it says which images are held out: write train, validation or test into each "
                "cell",
            )
            notes.append(noted("unused_column", name, detail, remedies=ways))
    return notes


def encoding(file: BinaryIO) -> str:
    """Return the Unicode encoding of a table by its first bytes; spreadsheets write UTF-16."""
    detected = json.detect_encoding(file.read(4))
    file.seek(0)
    return "utf-8-sig" if detected == "utf-8" else detected


def first_rows(file: BinaryIO) -> tuple[str, list[list[str]]]:
    """Return the delimiter of a table, and the cells of its first two rows ([] for none)."""
    with io.TextIOWrapper(file, encoding(file), "replace") as text:
        lines = filter(str.strip, iter(lambda: text.readline(_LINE_LIMIT), ""))
        first = list(itertools.islice(lines, 2))
    delimiter = max(",\t;", key=first[0].count) if first else ","
    if first and delimiter not in first[0]:
        # Beside others, it stands between several labels or words.
        delimiter = "|" if "|" in first[0] else " "
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


def cell_text(cell: str) -> str:
    """Return the label, split or group in a cell, "" for none.

    Spreadsheets add decimals ("3.0" becomes "3"), and programs write words for an empty cell.
    """
    cell = cell.strip()
    # A list of one label.
    cell = re.sub(r"^\[\s*(?:'([^']*)'|\"([^\"]*)\"|([^'\",\s]*))\s*\]$", r"\1\2\3", cell)
    if cell in _EMPTY or (cell.lower() in _EMPTY and cell.lower() not in ("none", "na")):
        return ""
    return cell[:-2] if re.fullmatch(r"\d+\.0", cell) else cell


def check_single_labels(where: str, labels: Collection[str], allowed: Collection[str]) -> None:
    """Raise a ConfigError if labels list others, unless `allowed` as names of classes."""
    examples = sorted(set(_combinations(set(labels) - set(allowed))))
    if examples:
        raise ConfigError(
            f"data source {where!r} gives several labels to an image: {join_names(examples)}. "
            "Expected one label in each row, because the answer of the model is one class; "
            f"{GUIDE}. Labels that are the name of one class nevertheless go in data.classes"
        )


def _combinations(labels: set[str]) -> Iterator[str]:
    """Yield the labels that are made of others: elm|moss, and "elm, oak" beside elm and oak."""
    folded_labels = {label.casefold() for label in labels}
    spaced: list[str] = []
    for label in labels:
        parts = list(filter(None, _BETWEEN.split(label.casefold())))
        if len(parts) > 1 and _SEVERAL.search(label):
            yield label
        elif len(parts) > 1 and folded_labels.issuperset(parts):
            spaced.append(label)
    # One name with spaces may be that of a class: a water bird, beside a bird and water.
    yield from spaced if len(spaced) > 1 or re.search("[,+&/]", "".join(spaced)) else ()


def unreadable_table(error: Exception, file: str, expected: str) -> ConfigError:
    """Say why a table cannot be read."""
    ragged = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    if isinstance(error, UnicodeDecodeError):
        what = f"is not UTF-8 text (byte {error.start}): write it again in UTF-8; {GUIDE}"
    elif isinstance(error, OSError):
        what = f"cannot be read: {error.strerror or error}; {expected}"
    elif ragged:
        width, row, cells = ragged.groups()
        what = (
            f"has {cells} cells in row {row}, and {width} in the rows above: a cell in which the "
            "character stands that divides cells needs quotation marks around it"
        )
    else:
        what = f"is not read: {str(error).strip()}; {expected}"
    return ConfigError(f"data source {file!r} {what}")


JSON_LINES = (".jsonl", ".ndjson")
TEXT = ".txt"
_TABLE = (".csv", ".tsv", TEXT)
_LISTS = (*_TABLE, *JSON_LINES)
_MIN_PIXELS = 4  # two by two
_MOST_TEXTS = 20  # text files beside a list that are looked into


def lists_files(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names a list of files: JSON Lines, or a table with a path column."""
    path = Path(locator).expanduser()
    if locator.lower().endswith(JSON_LINES):
        return True
    if not locator.lower().endswith(_TABLE) or not path.is_file():
        return False
    try:
        _, (titles, second) = first_rows(open_regular(path))
    except OSError:
        return False
    if any(file_names.is_image(cell) for cell in (*titles, *second)):
        return True
    if locator.lower().endswith(TEXT):
        return False
    if options.image_column:
        return True
    # The names of pixels are numbered, and those of classes in one-hot columns are not.
    pixels = [title for title, cell in zip(titles, second, strict=False) if is_number(cell)]
    has_pixels = sum(any(map(str.isdigit, title)) for title in pixels) >= _MIN_PIXELS
    return not has_pixels and any(is_usual(title, "path") for title in titles)


def texts_of_images(folder: Path, but: Path | None = None) -> list[Finding]:
    """Note the text files in a folder that name images, `but` one: they may hold their splits."""
    files = sorted(file for file in visible(folder) if file.suffix.lower() == TEXT)
    detail = "names images: it may hold labels or splits"
    return [
        noted("unread_list", file.name, detail, remedies=[GUIDE])
        for file in files[:_MOST_TEXTS]
        if file != but and lists_files(str(file), SourceOptions())
    ]


def lists_of_splits(folder: Path) -> dict[str, str]:
    """Return the lists of a folder that each hold one split, with the split; {} for none.

    Their names say it (train.csv, val.csv), or the folders say it that hold lists of one name.
    """
    inside = sorted(visible(folder))
    here = [file for file in inside if file.suffix.lower() in _LISTS and split_of(file.name)]
    if are_splits([file.name for file in here]):
        return {file.name: split_of(file.name) or "" for file in here}
    below = [file for inner in inside for file in visible(inner) if file.suffix.lower() in _LISTS]
    parents = [file.parent.name for file in below]
    if are_splits(parents) and len({file.name for file in below}) == 1:
        return {f"{name}/{below[0].name}": split_of(name) or "" for name in parents}
    return {}
