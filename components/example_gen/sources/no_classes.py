"""Says why a tree of files has no classes, or other labels than its folders, and what reads it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import local_files, tables
from imgpipe.components.example_gen.sources.base import Item, NoClasses, Scan
from imgpipe.components.example_gen.sources.readings import Reading, SeveralReadings
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular

LISTS = (".csv", ".tsv", ".jsonl", ".ndjson")
_SHEETS = (".xlsx", ".xls", ".ods")
_LABELS = ".cls"  # a file beside each image that holds its label, as WebDataset writes
_MOST_LISTS = 4  # with more, none of them is read
_WRITE = "write a list (.csv) with the columns path and label, and name it instead of the folder"


def explained(
    error: NoClasses,
    where: str,
    items: Sequence[Item],
    options: SourceOptions,
    readings: Iterable[Reading],
    place: Path | None = None,
) -> ConfigError:
    """Return the error of a source without classes, with the commands that read it."""
    files = [item.path for item in items if not file_names.is_hidden(Path(item.path).name)]
    every_reading = [*readings]
    if place is not None:
        texts = _outermost(files, (tables.TEXT,))
        texts = [file for file in texts if tables.lists_files(str(place / file), options)]
        every_reading = [*_by_lists(place, where, [*_outermost(files), *texts]), *readings]
    if not every_reading:
        return ConfigError(f"{error}{_situation(files)}")
    why = str(error).removeprefix(f"data source {where!r}: ")
    return SeveralReadings(where, options, why, every_reading)


def _situation(files: Sequence[str]) -> str:
    """Say what a source holds that no setting reads, and what to do."""
    packed = [file for file in files if file.lower().endswith(local_files.ENDINGS)]
    if packed:
        return f". It holds archives ({join_names(packed)}): unpack each into a folder of its name"
    images = [file for file in files if file_names.claims_to_be_image(file)]
    others = sorted({*files} - {*images}, key=lambda file: (file.count("/"), file))
    if not files:
        return ". It holds no file"
    if not images:
        return f". None of its files is an image: {join_names(others)}"
    labels = f"; the labels may be in {join_names(others)}" if others else ""
    example = next(filter(file_names.is_image, images), images[0])
    return (
        f". It has images such as {example}{labels}: make a folder for each class, and move its "
        f"images into it; or {_WRITE}; or say by data.label_pattern which part of the names is the "
        "label"
    )


def check_lists(
    place: Path, where: str, items: Sequence[Item], scan: Scan, options: SourceOptions
) -> Scan:
    """Raise a ConfigError for folders, scanned as `scan`, to which a list may give other labels.

    The first row of such a list names an image, and not the folder that it is in. Spreadsheets are
    noted. `place` is the folder on this machine in which the files are.
    """
    if options.class_level or options.label_pattern:
        return scan
    files = [item.path for item in items]
    lists = [file for file in _outermost(files) if _differs(place / file, scan)]
    beside = [file for file in files if file.endswith(_LABELS)]
    if lists or beside:
        why = f"{join_names(lists or beside)} may give other labels than the folders"
        why += "" if lists else f"; if so, {_WRITE}"
        readings = _by_lists(place, where, lists)
        readings.append(Reading({"class_level": 1}, f"classes {join_names(scan.vocabulary)}"))
        raise SeveralReadings(where, options, why, readings)
    detail = "may give other labels than the folders"
    sheets = _outermost(files, _SHEETS)
    remedy = "save it as CSV, and name that instead"
    notes = [noted("unread_list", file, detail, remedies=[remedy]) for file in sheets]
    notes += tables.texts_of_images(place)
    return replace(scan, notes=(*scan.notes, *notes))


def _differs(file: Path, scan: Scan) -> bool:
    """Whether the first row of a list names an image, and its other cells not the folder of it."""
    try:
        _, (_, row) = tables.first_rows(open_regular(file))
    except OSError:
        return False
    labels = [(_parts(item.path), item.label.lower()) for item in scan.items if item.label]
    names = {parts[0] for parts, _ in labels}
    path = next((cell for cell in row if _parts(cell)[0] in names), "")
    parts = _parts(path)
    given: set[str] = set()
    for count in range(len(parts), 0, -1):  # the same name may stand in every folder
        given = given or {label for other, label in labels if other[:count] == parts[:count]}
    cells = [cell.lower() for cell in row if cell != path]
    said = {part for cell in cells for part in re.split(r"[\\/]", cell)}
    return bool(given and said) and given.isdisjoint(said)


def _parts(path: str) -> list[str]:
    """Return the name in a path, without its suffix, and the folders from the innermost on."""
    return posixpath.splitext(path.replace("\\", "/"))[0].lower().split("/")[::-1]


def _outermost(files: Sequence[str], endings: tuple[str, ...] = LISTS) -> list[str]:
    """Return the lists that lie above all others; none where they are many."""
    lists = [file for file in files if file.lower().endswith(endings)]
    depth = min((file.count("/") for file in lists), default=0)
    lists = [file for file in lists if file.count("/") == depth]
    return lists if len(lists) <= _MOST_LISTS else []


def _by_lists(place: Path, where: str, lists: Sequence[str]) -> list[Reading]:
    """Return the readings by lists in `place`; those that each hold a split are one."""
    folder = Path(where).expanduser().absolute()
    unpacked_to = ""
    if not folder.is_dir():
        folder = Path("unpacked")
        unpacked_to = ", when the archive is unpacked into the folder unpacked"
    if lists and tables.lists_of_splits(place):
        return [Reading(gives=f"a list for each split{unpacked_to}", source=f"manifest:{folder}")]
    return [
        Reading(gives=f"the labels of {file}{unpacked_to}", source=str(folder / file))
        for file in lists
    ]
