"""The refusal of a tree: what stands at each level, each with the command that reads it so."""

from __future__ import annotations

import collections
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.example_gen.sources.images import Listing
from imgpipe.components.example_gen.sources.lists import NamedImage
from imgpipe.components.example_gen.sources.pixels import size_of_pixels
from imgpipe.components.example_gen.sources.records import RECORD_FILE
from imgpipe.models.errors import ConfigError, printable
from imgpipe.models.finding import said
from imgpipe.models.settings.data import DataSettings
from imgpipe.models.settings.section import declared

_SHOWN = 6  # folders of a level that are named
_ROWS = 1 << 20  # bytes in which the first two rows of a table of pixels are
_SHARE = 5  # a class has more images than this on average; a level with fewer has no classes
_SETTINGS = (
    "  data.skip leaves out folders and files, and data.label_pattern finds the label in names; "
    'see docs/data.md, "How a folder is read"'
)


def other_sources(
    files: Iterable[str], head: Callable[[str, int], bytes], place: Path | None
) -> list[tuple[str, str]]:
    """Return what is a source of its own among files that are no images, each with its spec.

    Args:
        files: Paths of the files.
        head: Function that reads the first bytes of a file.
        place: The folder on this machine; None for an archive or a bucket, which are not searched.
    """
    if place is None:
        return []
    records: dict[str, list[str]] = collections.defaultdict(list)
    sources = []
    for file in sorted(files):
        if RECORD_FILE.search(file):
            records["*/" * file.count("/")].append(file)
        elif file.lower().endswith(".csv") and (size := size_of_pixels(head(file, _ROWS))):
            sources.append((f"{file} holds rows of {size} pixels", str(place / file)))
    for depth, several in records.items():
        what = f"{plural(len(several), 'TFRecord file')} ({join_names(several, _SHOWN)})"
        sources.append((what, str(place / f"{depth}*.tfrec*")))
    return sources[:_SHOWN]


@dataclass(frozen=True)
class Level:
    """Folders that may be the classes.

    Attributes:
        title: Where they stand.
        images: Number of images by name.
        settings: Settings of [data] with which they are the classes.
    """

    title: str
    images: collections.Counter[str]
    settings: Mapping[str, Any]

    @property
    def may_be_classes(self) -> bool:
        """Whether there are several names, each with several images."""
        return 1 < len(self.images) < self.images.total() / _SHARE


def refused(
    listing: Listing,
    why: str,
    levels: Iterable[Level],
    lists: Sequence[NamedImage],
    others: Iterable[tuple[str, str]],
    place: Path | None,
    options: DataSettings,
) -> ConfigError:
    """Return the error for a tree that is not laid out as expected.

    Args:
        listing: The listing of the source, with the notes of what was not entered.
        why: What is wrong.
        levels: The folders at each level.
        lists: Lists beside the folders that name images.
        others: Other files that are sources of their own: what they are, and the spec.
        place: The folder on this machine; None for an archive or a bucket.
        options: Settings of the source, which each command has, too.
    """
    where = listing.source
    lost = [said(finding) for finding in listing.notes.findings() if finding["decides"]]
    lines = [f"data source {where!r}: {'. '.join([why, *lost])}"]
    for level in levels:
        if level.may_be_classes:
            counted = [f"{name} ({count:,})" for name, count in sorted(level.images.items())]
            number = plural(level.images.total(), "image")
            lines.append(f"  {level.title}: {join_names(counted, _SHOWN)} of {number}")
            lines += _command(where, options, level.settings)
    for named in lists[:_SHOWN]:
        lines.append(f"  {named.file} names images: {named.example}")
        if place is None:
            lines.append("    it can be read where the files are in a folder")
        elif named.root is not None:
            beside = named.file.rpartition("/")[0]
            root = {"root": str(place / named.root)} if named.root != beside else {}
            lines += _command(str(place / named.file), options, root)
    for what, spec in others:
        lines += [f"  {what}", *_command(spec, options, {})]
    return ConfigError("\n".join([*lines, _SETTINGS]))


def _command(where: str, options: DataSettings, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the line with the command that reads a source with more settings than were given."""
    words = ["imgpipe check", shlex.quote(where)]
    chosen = options.model_copy(update=dict(settings))
    for name, declaration in declared(DataSettings).items():
        value = getattr(chosen, name)
        if name != "source" and value != declaration.default:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            words.append(f"--set {shlex.quote(f'data.{name}={text}')}")
    command = " ".join(words)
    if printable(command) == command:  # a terminal does not pass on other names
        yield f"    {command}"
