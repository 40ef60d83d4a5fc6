"""Which files are lists of images, and what those beside images say.

A list is a table that names images, or JSON Lines. One beside folders that gives other labels than
these asks a question; others are named, because they may hold labels or splits.
"""

from __future__ import annotations

import csv
import itertools
import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.image_file.file_names import Kind, without_ending
from imgpipe.components.common.splits import are_splits, split_of
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources import tables
from imgpipe.components.example_gen.sources.base import Scan
from imgpipe.components.example_gen.sources.layout import Ambiguity, Way
from imgpipe.components.example_gen.sources.local_files import visible
from imgpipe.models.finding import Finding
from imgpipe.models.settings.data import DataSettings

KIND = "manifest"  # prefix of the spec of a list
TEXT = ".txt"
_TABLE = (".csv", ".tsv")
#: Endings of lists; a text may be one, too.
LISTS = (*_TABLE, *tables.JSON_LINES)
_SHEETS = (".xlsx", ".xls", ".ods")
_LABELS = ".cls"  # a file beside each image that holds its label, as WebDataset writes
_MOST_LISTS = 4  # with more, none of them is read
_MIN_PIXELS = 4  # two by two
_MOST_TEXTS = 20  # text files that are looked into
#: What to do where no list is read.
WRITE = f"write a list (.csv) with the columns path and label ({tables.GUIDE})"


def names_images(file: Path) -> bool:
    """Whether one of the first two rows of a table or of JSON Lines names an image."""
    try:
        if tables.is_json_lines(file):
            _, first = next(tables.json_rows(file), (0, {}))
            cells = [value for value in first.values() if isinstance(value, str)]
        else:
            _, (titles, second) = tables.first_rows(file)
            cells = [*titles, *second]
    except (OSError, ValueError, csv.Error):
        return False
    return any(map(file_names.is_image, cells))


def lists_files(locator: str, options: DataSettings) -> bool:
    """Whether a plain path names a list of files: JSON Lines, or a table with a path column."""
    file = Path(locator).expanduser()
    ending = file_names.ending_of(file.name)
    if ending in tables.JSON_LINES:
        return True
    if ending not in (*_TABLE, TEXT) or not file.is_file():
        return False
    if names_images(file):
        return True
    return ending != TEXT and (bool(options.image_column) or _has_paths(file))


def _has_paths(file: Path) -> bool:
    """Whether a table that names no image has a title of paths, and no pixels.

    The names of pixels are numbered, and those of classes in one-hot columns are not.
    """
    _, (titles, second) = tables.first_rows(file)
    pixels = [title for title, cell in zip(titles, second, strict=False) if tables.is_number(cell)]
    has_pixels = sum(any(map(str.isdigit, title)) for title in pixels) >= _MIN_PIXELS
    return not has_pixels and any(tables.is_usual(title, "path") for title in titles)


def unread_lists(folder: Path, but: Path | None = None) -> list[Finding]:
    """Note spreadsheets and texts that name images in a folder, `but` one: they may hold labels."""
    files = sorted(file for file in visible(folder) if file != but)
    texts = [file for file in files if file_names.ending_of(file.name) == TEXT]
    lists = [file for file in files if file_names.ending_of(file.name) in _SHEETS]
    lists += [file for file in texts[:_MOST_TEXTS] if names_images(file)]
    detail = "may hold labels or splits"
    ways = [f"save it as CSV, and name that instead ({tables.GUIDE})"]
    return [noted("unread_list", file.name, detail, remedies=ways) for file in lists]


def lists_of_splits(folder: Path) -> list[str]:
    """Return the lists of a folder that each hold one split; [] for none.

    Their names say it (train.csv, val.csv), or the folders say it that hold lists of one name.
    """
    files = [*visible(folder), *(file for inner in visible(folder) for file in visible(inner))]
    paths = sorted(file.relative_to(folder).as_posix() for file in files)
    lists = outermost(filter(split_of, paths), (*LISTS, TEXT))
    return lists if are_splits(lists) else []


def check_lists(place: Path, others: Mapping[str, Kind], scan: Scan) -> list[Finding]:
    """Return notes of the files in `place`, no images by their names, that may give labels.

    Raises Ambiguity if a list gives other labels: its first row names an image, and not the folder
    that it is in.
    """
    lists = [file for file in outermost(others, LISTS) if _differs(place / file, scan)]
    lists = lists or [file for file in others if file.endswith(_LABELS)]
    if lists:
        why = f"{join_names(lists)} may give other labels than the folders"
        skip = tuple(f"/{file}" for file in lists)
        raise Ambiguity(
            f"{why}; if it is not read, {WRITE}", *sources(place, others), {"skip": skip}
        )
    return unread_lists(place)


def _differs(file: Path, scan: Scan) -> bool:
    """Whether the first row of a list names an image, and its other cells not the folder of it."""
    _, (_, row) = tables.first_rows(file)
    labels = [(_inside_out(item.path), item.label.lower()) for item in scan.items if item.label]
    images = {image[0] for image, _ in labels}
    path = next((cell for cell in row if _inside_out(cell)[0] in images), "")
    wanted = _inside_out(path)
    given: set[str] = set()
    for count in range(len(wanted), 0, -1):  # the same name may stand in every folder
        given = given or {label for image, label in labels if image[:count] == wanted[:count]}
    cells = [cell.lower() for cell in row if cell != path]
    said = {part for cell in cells for part in re.split(r"[\\/]", cell)}
    return bool(given and said) and given.isdisjoint(said)


def _inside_out(path: str) -> list[str]:
    """Return the name in a path, without its ending, and the folders from the innermost on."""
    return without_ending(path.replace("\\", "/")).lower().split("/")[::-1]


def outermost(files: Iterable[str], endings: tuple[str, ...]) -> list[str]:
    """Return the files with some endings that lie above all others; none where they are many."""
    lists = [file for file in files if file.lower().endswith(endings)]
    depth = min((file.count("/") for file in lists), default=0)
    lists = [file for file in lists if file.count("/") == depth]
    return lists if len(lists) <= _MOST_LISTS else []


def sources(place: Path, others: Mapping[str, Kind]) -> list[Way]:
    """Return the ways to read the lists in a folder: those that each hold a split, or the first."""
    lists = outermost(others, LISTS)
    around = place / posixpath.commonpath([posixpath.dirname(file) for file in lists or [""]])
    if lists_of_splits(around):
        return [{"source": f"{KIND}:{around}"}]
    texts = [file for file, kind in others.items() if kind in ("table", "text")]
    texts.sort(key=lambda file: file.count("/"))
    named = (file for file in texts[:_MOST_TEXTS] if names_images(place / file))
    first = next(itertools.chain(lists, named), None)
    if first is None:
        return []
    is_known = first.lower().endswith((*LISTS, TEXT))
    return [{"source": f"{'' if is_known else KIND + ':'}{place / first}"}]
