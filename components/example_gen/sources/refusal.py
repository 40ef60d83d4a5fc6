"""How a tree of folders is read: in the one way that it has, or refused once.

`docs/data.md` describes it in half a page, for all sources with paths. Where `layout` or the lists
beside the folders ask a question, the refusal shows what stands at each level, the settings that
choose, and the likeliest command or two, which follow from the structure and are not tried.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file.file_names import Kind
from imgpipe.components.example_gen.notes import gathered
from imgpipe.components.example_gen.sources import folder_tree, list_files, local_files
from imgpipe.components.example_gen.sources.base import (
    EXPECTED_TREE,
    Item,
    NoClasses,
    Scan,
    Source,
)
from imgpipe.components.example_gen.sources.folder_tree import Folder
from imgpipe.components.example_gen.sources.layout import Ambiguity, Layout, Way, label_pattern
from imgpipe.models.errors import ConfigError, printable
from imgpipe.models.finding import Finding, said
from imgpipe.models.settings.data import DataSettings
from imgpipe.models.settings.section import declared

_MOST = 2  # commands that a refusal shows
_LEVELS = 5  # that a refusal shows
_SHOWN = 6  # folders of a level that it names
_MAY_HOLD_LABELS = ("table", "text", "document", "other")
_SETTINGS = (
    "  data.class_level, data.skip, data.split_folders and data.label_pattern choose; see "
    'docs/data.md, "How a folder is read"'
)


def lay_out(
    source: Source,
    items: Sequence[Item],
    folders: Iterable[str],
    notes: Iterable[Finding],
    descend: bool = True,
    place: Path | None = None,
) -> Scan:
    """Return the scan of the items of a source with labels and splits by their folders.

    Folders may hold no item; `descend` says whether a single folder around all others is passed;
    `place` is the folder on this machine in which the files are. Paths that are not laid out as
    expected, or can be read in two ways, are a ConfigError.
    """
    where = source.locator
    options = source.options
    below = functools.partial(folder_tree.kind_below, place) if place else None
    kind_of = below or folder_tree.kinds_by_name(items)
    contents = folder_tree.of_images(items, set(folders), options.skip, kind_of)
    others = contents.others
    layout = Layout(source, contents.root, descend, [*notes, *contents.notes])
    try:
        scan = layout.scan()
        more = contents.unused(layout.classes)
        if place is not None and not options.class_level and not options.label_pattern:
            more += list_files.check_lists(place, others, scan)
        return dataclasses.replace(scan, notes=(*scan.notes, *more))
    except Ambiguity as question:
        why = str(question)
        ways = [*question.ways]
    except NoClasses as question:
        why = str(question).removeprefix(f"data source {where!r}: ")
        ways = list_files.sources(place, others) if place else []
        ways += _without_classes(layout)
    lost = "; ".join(map(said, gathered(contents.lost())))
    if others and not layout.tree.total:
        why = f"found {_no_image(others, lost, place)}; {EXPECTED_TREE}"
    elif not ways:
        why += _what_it_holds(layout.tree, others, lost)
    if place is not None and not Path(where).expanduser().is_dir():
        in_archive = [way for way in ways if "source" in way]
        ways = [way for way in ways if way not in in_archive]
        why += "; unpack the archive to read the list in it" if in_archive else ""
    levels = _levels(layout, others) if ways else []
    lines = commands(where, options, ways)
    raise ConfigError("\n".join([f"data source {where!r}: {why}", *levels, *lines]))


def commands(where: str, options: DataSettings, ways: Iterable[Way]) -> list[str]:
    """Return the lines with the likeliest commands that read a source that is refused.

    The settings of each way are added to those of the user.
    """
    lines: list[str] = []
    for way in ways:
        words = ["imgpipe check", shlex.quote(way.get("source", where))]
        skip = (*options.skip, *way.get("skip", ()))
        chosen = options.model_copy(update={**way, "skip": skip})
        for name, declaration in declared(DataSettings).items():
            value = getattr(chosen, name)
            if name != "source" and value != declaration.default:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                words.append(f"--set {shlex.quote(f'data.{name}={text}')}")
        command = " ".join(words)
        if printable(command) == command:  # a terminal does not pass on other names
            lines.append(f"  {'or' if lines else 'likeliest'}: {command}")
    return lines[:_MOST]


def _layers(layout: Layout) -> list[list[Folder]]:
    """Return the folders around the classes, and those at each level, as `class_level` counts."""
    layers = [[folder for folder, _ in layout.roots()]]
    for _ in range(_LEVELS):
        layers.append([inner for folder in layers[-1] for inner in folder.filled()])
    return [layer for layer in layers if layer]


def _levels(layout: Layout, others: Mapping[str, Kind]) -> list[str]:
    """Say which folders stand at each level, and which lists beside them."""
    layers = _layers(layout)
    splits = [folder.name for folder, split in layout.roots() if split]
    lines = [f"  splits: {join_names(splits, _SHOWN)}"] if splits else []
    for level, layer in enumerate(layers[1:], 1):
        images = Counter[str]()
        for folder in layer:
            images[folder.name] += folder.total
        counted = [f"{name} ({count:,})" for name, count in sorted(images.items())]
        loose = sum(len(folder.files) for folder in layers[level - 1])
        beside = f"; {plural(loose, 'image')} beside them" if loose else ""
        named = join_names(counted, _SHOWN)
        lines.append(f"  level {level}: {named} of {plural(images.total(), 'image')}{beside}")
    lists = list_files.outermost(others, list_files.LISTS)
    lines += [f"  lists: {join_names(lists, _SHOWN)}"] if lists else []
    return [*lines, _SETTINGS]


def _without_classes(layout: Layout) -> list[Way]:
    """Return the ways to read a tree in which no folders are classes: a deeper level, or names."""
    ways: list[Way] = []
    deeper = [{folder.name for folder in layer} for layer in _layers(layout)[2:]]
    levels = [level for level, found in enumerate(deeper, 2) if len(found) > 1]
    if levels and not layout.source.options.class_level:
        ways.append({"class_level": levels[0]})
    pattern = label_pattern(item.path for folder in layout.tree.walk() for item in folder.files)
    ways += (
        [{"label_pattern": pattern}] if pattern and not layout.source.options.label_pattern else []
    )
    return ways


def _no_image(others: Mapping[str, Kind], lost: str, place: Path | None) -> str:
    """Say what a source holds that has no image."""
    if lost:
        return lost
    files = _outermost_first(others)
    such = f": {files[0]} is {local_files.described(place / files[0])}" if place else ""
    return (
        f"{plural(len(files), 'file')} ({join_names(files)}), none of which is an image{such}. "
        "TensorFlow Datasets reads known sets, such as tfds:mnist and tfds:cifar10"
    )


def _outermost_first(files: Iterable[str]) -> list[str]:
    return sorted(files, key=lambda file: (file.count("/"), file))


def _what_it_holds(tree: Folder, others: Mapping[str, Kind], lost: str) -> str:
    """Say what a source holds that no setting reads, and what to do."""
    images = sorted(item.path for folder in tree.walk() for item in folder.files)
    if not images:
        return ". It holds no file"
    rest = _outermost_first(file for file, kind in others.items() if kind in _MAY_HOLD_LABELS)
    beside = f"; labels may be in {join_names(rest)}" if rest else ""
    beside += f". Beside them: {lost}" if lost else ""
    return (
        f". It holds images such as {images[0]}{beside}. Make a folder for each class, and move "
        f"its images into it; or {list_files.WRITE}, and name it instead of the folder; or say by "
        "data.label_pattern which part of the names is the label"
    )
