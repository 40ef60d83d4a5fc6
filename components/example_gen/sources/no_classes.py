"""Says why a tree of files has no classes, and gives the commands that read it nevertheless."""

from __future__ import annotations

import collections
import itertools
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import (
    labels_in_names,
    readings,
    tables,
    unpacking,
)
from imgpipe.components.example_gen.sources.base import Item, Note, Scan
from imgpipe.components.example_gen.sources.listing import NoClasses
from imgpipe.components.example_gen.sources.lists import ListSource
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.regular_files import open_regular

LISTS = (".csv", ".tsv", ".jsonl", ".ndjson")
_SHEETS = (".xlsx", ".xls", ".ods")
_SAVED = "save it as CSV, and name that instead"
_LABELS = ".cls"  # a file beside each image that holds its label, as WebDataset writes
_READING = "classes "  # a list that gives labels, or may give them by one of its columns
_MOST_LISTS = 4  # with more, none of them is tried


def explained(
    error: NoClasses,
    where: str,
    items: Sequence[Item],
    options: SourceOptions,
    scan: readings.Scanner,
    place: Path | None = None,
) -> ConfigError:
    """Return the error of a source without classes, with the commands that read it.

    Args:
        error: What was found.
        where: The source, as commands name it.
        items: All files of the source.
        options: The options of the user.
        scan: Function that reads the tree with other options.
        place: The folder on this machine in which the files are.
    """
    files = [item.path for item in items if not file_names.is_hidden(Path(item.path).name)]
    by_suffix = collections.Counter(file_names.suffix(file) for file in files)
    images = [item for item in items if file_names.claims_to_be_image(item.path)]
    pattern = labels_in_names.pattern_in(images)
    changes: list[readings.OptionChange] = [{"label_pattern": pattern}] if pattern else []
    lines = readings.choices(where, options, [*changes, {"class_level": 1}], scan)
    folder = Path(where).expanduser().absolute()
    if place is not None:
        lines = _lists(place, folder, files, options) + lines
    said = "\n  ".join([". It can be read in another way:", *lines])
    if not lines:
        said = _explained(folder, files, images, by_suffix)
    return ConfigError(f"{error}{said}")


def _explained(
    folder: Path, files: Sequence[str], images: Sequence[Item], by_suffix: Mapping[str, int]
) -> str:
    """Say what a source holds that no setting reads, and what to do."""
    archives = [file for file in files if file.lower().endswith(unpacking.ENDINGS)]
    if archives:
        packed = f". It holds what is still packed ({join_names(archives)})"
        return f"{packed}. {unpacking.advice(folder, archives)}"
    lists = [] if folder.is_dir() else _outermost(files)
    if lists and images:
        packed = f". A list of its images ({join_names(lists)}) is read when it is unpacked"
        return f"{packed}. {unpacking.advice(folder)}"
    if _LABELS in by_suffix and images and folder.exists():
        labels = f". The labels are in {by_suffix[_LABELS]:,} {_LABELS} files"
        return f"{labels}. Write a list: {_cls(folder, images)}"
    if not files:
        return ". It holds no file"
    sheets = [file for file in files if file.lower().endswith(_SHEETS)]
    if sheets and images:
        named = join_names(sheets)
        return f". A spreadsheet ({named}) is not read: save it as CSV, and name that instead"
    if not images:
        kinds = [f"{count:,} {suffix}" for suffix, count in sorted(by_suffix.items())]
        return f". None of its files is an image: {join_names(kinds)}"
    return (
        f". Its images, such as {images[0].path}, are in no folder of a class: make a folder for "
        "each class, and move the images into them; or write a list with the columns path and "
        "label, and name it instead of the folder; or say by data.label_pattern which part of the "
        "names is the label"
    )


def check_lists(
    place: Path, where: str, items: Sequence[Item], scan: Scan, options: SourceOptions
) -> Scan:
    """Refuse folders of images for which a list beside them gives other labels.

    Args:
        place: The folder on this machine in which the files are.
        where: The source, as commands name it.
        items: All files of the source.
        scan: What the folders give.
        options: The options of the user.

    Returns:
        The scan, with notes of spreadsheets.

    Raises:
        ConfigError: The first row of a list names an image, and not the folder that it is in.
    """
    if options.class_level or options.label_pattern:
        return scan
    folder = Path(where).expanduser().absolute()
    files = [item.path for item in items]
    for file in _outermost(files):
        lines = _lists(place, folder, [file], options) if _differs(place / file, scan) else []
        # A column that may be that of the labels counts where the paths name no folder of a class.
        is_read = bool(lines) and lines[0].startswith(_READING)
        may_be_read = bool(lines) and _READING in lines[0]
        if is_read or (may_be_read and _differs(place / file, scan, with_paths=True)):
            raise _other_labels(where, f"{file} gives", lines, scan, options)
    count = sum(item.path.endswith(_LABELS) for item in items)
    if count:
        line = f"the labels in these files: {_cls(folder, scan.items)}"
        why = f"{count:,} {_LABELS} files beside the images may give"
        raise _other_labels(where, why, [line], scan, options)
    detail = "may give other labels than the folders"
    sheets = _outermost(files, _SHEETS)
    notes = [Note("unread_list", file, detail, remedy=_SAVED) for file in sheets]
    return replace(scan, notes=(*scan.notes, *notes))


def _differs(file: Path, scan: Scan, with_paths: bool = False) -> bool:
    """Whether the first row of a list names an image, and its other cells not the folder of it."""
    try:
        _, (_, row) = tables.first_rows(open_regular(file))
    except OSError:
        return False
    by_name: dict[str, list[Item]] = collections.defaultdict(list)
    for item in scan.items:
        if item.label:
            by_name[_parts(item.path)[0]].append(item)
    path = next((cell for cell in row if _parts(cell)[0] in by_name), None)
    if path is None:
        return False
    parts = _parts(path)
    alike = by_name[parts[0]]  # the same name may stand in every folder
    shared = [_shared(_parts(item.path), parts) for item in alike]
    pairs = zip(alike, shared, strict=True)
    labels = {str(item.label).lower() for item, depth in pairs if depth == max(shared)}
    cells = [cell.lower() for cell in row if with_paths or cell != path]
    return labels.isdisjoint(part for cell in cells for part in re.split(r"[\\/]", cell))


def _parts(path: str) -> list[str]:
    """Return the name in a path, without its suffix, and the folders from the innermost on."""
    return posixpath.splitext(path.replace("\\", "/"))[0].lower().split("/")[::-1]


def _shared(parts: Sequence[str], others: Sequence[str]) -> int:
    """Return how many parts two paths share, from the innermost on."""
    pairs = zip(parts, others, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _other_labels(
    where: str, what_gives: str, lines: Sequence[str], scan: Scan, options: SourceOptions
) -> ConfigError:
    """Return the refusal of folders whose files have other labels somewhere else."""
    by_folder = readings.command(where, replace(options, class_level=1))
    said = [*lines, f"{readings.described(scan)}: {by_folder}"]
    return ConfigError(
        f"data source {where!r}: {what_gives} other labels than the folders. "
        + "\n  ".join(["Choose one:", *said])
    )


def _outermost(files: Sequence[str], endings: tuple[str, ...] = LISTS) -> list[str]:
    """Return the lists that lie above all others; none where they are many."""
    lists = [file for file in files if file.lower().endswith(endings)]
    depth = min((file.count("/") for file in lists), default=0)
    lists = [file for file in lists if file.count("/") == depth]
    return lists if len(lists) <= _MOST_LISTS else []


def _lists(place: Path, source: Path, files: Sequence[str], options: SourceOptions) -> list[str]:
    """Return what the lists in a folder give, or why the first of them cannot be read.

    Args:
        place: The folder on this machine in which the files are.
        source: The source, which may be the archive that was unpacked to this folder.
        files: Paths of the files of the source.
        options: The options of the user.
    """
    lines: list[str] = []
    problems: list[str] = []
    shown = source if source.is_dir() else Path(unpacking.FOLDER)
    first = "" if source.is_dir() else f"{unpacking.command(str(source))} && "
    for file in _outermost(files):
        try:
            scan = ListSource(str(place / file), options).listing()
        except ConfigError as error:
            said = str(error).removeprefix("data source ")
            problems.append(said.replace(str(place), str(shown)))
        else:
            command = readings.command(str(shown / file), options)
            lines.append(f"{readings.described(scan)}: {first}{command}")
    return lines or problems[:1]


def _cls(folder: Path, images: Sequence[Item]) -> str:
    """Return the commands that list the images with the labels in the files beside them."""
    first = [] if folder.is_dir() else [unpacking.command(str(folder))]
    inside = str(folder) if folder.is_dir() else unpacking.FOLDER
    ending = file_names.suffix(images[0].path)
    row = f'echo "${{f%{_LABELS}}}{ending},$(cat "$f")"'
    rows = f"find . -name '*{_LABELS}' | while read -r f; do {row}; done"
    steps = [*first, f"cd {shlex.quote(inside)}", f"(echo path,label; {rows}) > labels.csv"]
    return " && ".join([*steps, "imgpipe check labels.csv"])
