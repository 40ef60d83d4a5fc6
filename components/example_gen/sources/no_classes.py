"""Says why a tree of files has no classes, or other labels than its folders, and what reads it."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import tables, unpacking
from imgpipe.components.example_gen.sources.base import Item, Note, Scan, Source
from imgpipe.components.example_gen.sources.listing import NoClasses
from imgpipe.components.example_gen.sources.lists import ListSource
from imgpipe.components.example_gen.sources.readings import Reading, TwoReadings, classes_of
from imgpipe.models.errors import ConfigError

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
) -> ConfigError:
    """Return the error of a source without classes, with the commands that read it."""
    lines = [reading.command(where, options) for reading in readings]
    files = [item.path for item in items if not file_names.is_hidden(Path(item.path).name)]
    folder = Path(where).expanduser().absolute()
    if folder.is_dir():
        of_lists, problems = _lists(folder, _outermost(files), options)
        lines = (of_lists or problems[:1]) + lines
    said = "\n  ".join([". It can be read in another way:", *lines])
    return ConfigError(f"{error}{said if lines else _situation(folder, files)}")


def _situation(folder: Path, files: Sequence[str]) -> str:
    """Say what a source holds that no setting reads, and what to do."""
    archives = [file for file in files if file.lower().endswith(unpacking.ENDINGS)]
    if archives:
        packed = f". It holds what is still packed ({join_names(archives)})"
        return f"{packed}. {unpacking.advice(folder, archives)}"
    if not files:
        return ". It holds no file"
    images = [file for file in files if file_names.claims_to_be_image(file)]
    others = sorted({*files} - {*images}, key=lambda file: (file.count("/"), file))
    if not images:
        return f". None of its files is an image: {join_names(others)}"
    labels = f"; the labels may be in {join_names(others)}" if others else ""
    example = next(filter(file_names.is_image, images), images[0])
    said = f". Its images, such as {example}, are in no folder of a class{labels}"
    if others and not folder.is_dir():
        return f"{said}. {unpacking.advice(folder)}"
    return (
        f"{said}: make a folder for each class, and move the images into them; or {_WRITE}; or say "
        "by data.label_pattern which part of the names is the label"
    )


def check_lists(
    source: Source, where: str, items: Sequence[Item], scan: Scan, options: SourceOptions
) -> Scan:
    """Refuse folders of images, scanned as `scan`, for which a list gives other labels.

    Spreadsheets are noted, and so are lists in archives, which are not read.

    Raises:
        ConfigError: The first row of a list names an image, and not the folder that it is in.
    """
    if options.class_level or options.label_pattern:
        return scan
    folder = Path(where).expanduser().absolute()
    files = [item.path for item in items]
    others = [file for file in _outermost(files) if _has_other_labels(source, file, items, scan)]
    giving: dict[str, list[str]] = {}
    for file in others if folder.is_dir() else ():
        giving[f"{file} gives"], _ = _lists(folder, [file], options)
    count = sum(item.path.endswith(_LABELS) for item in items)
    if count:
        by_files = f"the labels in these files: {_WRITE}"
        giving[f"{count:,} {_LABELS} files beside the images may give"] = [by_files]
    for what_gives, lines in giving.items():
        if lines:
            by_folder = Reading(_described(scan), {"class_level": 1}).command(where, options)
            choose = "\n  ".join(["Choose one:", *lines, by_folder])
            why = f"{what_gives} other labels than the folders. {choose}"
            raise ConfigError(f"data source {where!r}: {why}")
    unread = dict.fromkeys(_outermost(files, _SHEETS), "save it as CSV, and name that instead")
    if not folder.is_dir():
        unread |= dict.fromkeys(others, unpacking.advice(folder))
    detail = "may give other labels than the folders"
    notes = [Note("unread_list", file, detail, remedy=remedy) for file, remedy in unread.items()]
    return replace(scan, notes=(*scan.notes, *notes))


def _has_other_labels(source: Source, file: str, items: Iterable[Item], scan: Scan) -> bool:
    """Whether the first row of a list names an image, and not the folder that it is in."""
    try:
        list_item = next(item for item in items if item.path == file)
        _, (_, row) = tables.first_rows(io.BytesIO(source.read(list_item)))
    except OSError:
        return False
    cells = {part.lower() for cell in row for part in re.split(r"[\\/]", cell)}
    ends = {posixpath.splitext(f"/{cell}".replace("\\", "/").lower())[0] for cell in row if cell}
    labels = {
        item.label.lower()
        for item in scan.items
        if item.label and posixpath.splitext(f"/{item.path}".lower())[0].endswith(tuple(ends))
    }
    return bool(labels) and labels.isdisjoint(cells)


def _described(scan: Scan) -> str:
    return classes_of(scan.vocabulary, len(scan.items), scan.given_splits)


def _outermost(files: Sequence[str], endings: tuple[str, ...] = LISTS) -> list[str]:
    """Return the lists that lie above all others; none where they are many."""
    lists = [file for file in files if file.lower().endswith(endings)]
    depth = min((file.count("/") for file in lists), default=0)
    lists = [file for file in lists if file.count("/") == depth]
    return lists if len(lists) <= _MOST_LISTS else []


def _lists(
    folder: Path, files: Sequence[str], options: SourceOptions
) -> tuple[list[str], list[str]]:
    """Return what the lists in a folder give, and why the others cannot be read."""
    lines: list[str] = []
    problems: list[str] = []
    for file in files:
        place = str(folder / file)
        try:
            scan = ListSource(place, options).listing()
        except TwoReadings as error:
            lines += error.lines
        except ConfigError as error:
            problems.append(str(error).removeprefix("data source "))
        else:
            lines.append(Reading(_described(scan)).command(place, options))
    return lines, problems
