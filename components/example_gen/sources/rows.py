"""Rows as a source: a list, a table, a record file or a log says what each image is.

Each kind of source finds its rows. `RowsSource` takes what they say in the words of all kinds:
labels, splits and groups, rows that contradict each other, and names of files that say the split of
their rows.
"""

from __future__ import annotations

import abc
import collections
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_row import TWO_GROUPS, TWO_LABELS, TWO_SPLITS
from imgpipe.components.common.splits import split_of, split_word
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources import local_files, tables
from imgpipe.components.example_gen.sources.base import Item, Scan, Source, listed
from imgpipe.models.errors import ConfigError
from imgpipe.models.finding import Finding

#: First character of the locator of a row that names no image; the reason follows.
REFUSED = "!"
_REASONS = (TWO_SPLITS, TWO_GROUPS, TWO_LABELS)


class SourceRow(NamedTuple):
    """What a row says of an image, in the texts of its cells; "" for nothing."""

    place: str  # for messages, such as "row 7"
    path: str  # `Item.path`
    locator: str  # `Item.locator`
    label: str = ""
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class SourceTable:
    """The rows of one file, or of one part of a data set.

    Attributes:
        name: Its name, for messages.
        rows: Its rows.
        split: Split of the rows that name none; None if it is to be assigned.
        notes: What is not read of it.
        classes: Names of classes that the source declares, also of those without a row.
    """

    name: str
    rows: Sequence[SourceRow]
    split: str | None = None
    notes: Sequence[Finding] = ()
    classes: Sequence[str] = ()


class RowsSource(Source):
    """The images of which rows tell."""

    expected: ClassVar[str]  # for messages
    prefix: ClassVar[str] = ""  # of a locator that is no path, for messages

    @property
    def source(self) -> str:
        """The source, for messages."""
        return f"{self.prefix}{self.locator}"

    @abc.abstractmethod
    def tables(self) -> Iterable[SourceTable]:
        """Return all rows; raises as `Source.listing` does."""

    @abc.abstractmethod
    def read_row(self, item: Item) -> bytes:
        """Read the image of an item; see `Source.read`."""

    def unchecked(self) -> Scan:
        """Read all rows; see `Source.unchecked`."""
        read = [*self.tables()]
        rows_of: dict[tuple[str, str], list[tuple[str, tuple[str, ...]]]]
        rows_of = collections.defaultdict(list)
        for table in read:
            of_table = f" of {table.name}" if len(read) > 1 else ""
            for row in table.rows:
                split, group, label = map(tables.cell_text, (row.split, row.group, row.label))
                split = tables.split_text(split)
                split = split_word(split, f"{table.name!r}, {row.place}") if split else ""
                said = (split or table.split or "", group, label)
                rows_of[row.path, row.locator].append((f"{row.place}{of_table}", said))
        labels = {said[-1] for rows in rows_of.values() for _, said in rows} - {""}
        declared = {name for table in read for name in table.classes}
        notes = [note for table in read for note in table.notes]
        notes += [
            noted("listed_twice", path, f"in {join_names([place for place, _ in same])}")
            for (path, _), same in rows_of.items()
            if len(same) > 1
        ]
        allowed = {*self.options.classes, *declared}
        notes += tables.check_single_labels(self.source, labels, allowed)
        return listed(
            self.source,
            [_item(path, locator, same) for (path, locator), same in rows_of.items()],
            self.expected,
            self.least_classes,
            notes,
            labels | declared,
            {table.split for table in read} - {None},
        )

    def read(self, item: Item) -> bytes:
        """Read one image; a row that names none is an OSError, as what cannot be read."""
        if item.locator.startswith(REFUSED):
            raise OSError(item.locator[1:])
        return self.read_row(item)


def _item(path: str, locator: str, rows: Sequence[tuple[str, tuple[str, ...]]]) -> Item:
    """Return the item of an image, with a problem if its rows contradict each other."""
    problem = ""
    values: list[str | None] = []
    # The label comes last, because a person may correct it, and the other problems would remain.
    for number, reason in enumerate(_REASONS):
        places: dict[str, str] = {}
        for place, said in rows:
            places.setdefault(said[number], place)
        places.pop("", None)
        values.append(next(iter(places)) if len(places) == 1 else None)
        if len(places) > 1 and not problem:
            in_rows = (f"{value!r} ({place})" for value, place in places.items())
            problem = f"{reason}: listed as {' and '.join(in_rows)}"
    split, group, label = values
    return Item(path, label, split, group=group, problem=problem, locator=locator)


class RowFiles(RowsSource):
    """Files that each hold rows: one file, those below a folder, or those of a pattern."""

    names: ClassVar[re.Pattern[str]]  # of such files

    @abc.abstractmethod
    def table(self, file: Path, name: str) -> SourceTable:
        """Read a file with this name; an OSError or a ValueError is the reason of a refusal."""

    def check(self, files: Sequence[Path]) -> None:
        """Refuse a folder whose files, here in order, are not all that it should hold."""

    def folder(self) -> Path:
        """Return the folder to which the names of the files are relative."""
        return self.path if self.path.is_dir() else self.path.parent

    def tables(self) -> list[SourceTable]:
        """Return a table for each file, with the split that its name says.

        A file that cannot be read or that is not as expected is a ConfigError.
        """
        folder = self.folder()
        may_lead_out = self.options.follow_links or folder != self.path
        read = []
        for file in self.files(folder):
            name = file.relative_to(folder).as_posix()
            try:
                if not may_lead_out:
                    local_files.check_inside(file, folder)
                read.append(self.table(file, name))
            except (OSError, ValueError) as error:
                raise tables.not_read(str(file), error) from None
        return _with_splits(self.locator, read)

    def files(self, folder: Path) -> list[Path]:
        """Return the files, which are in this folder; none is a ConfigError."""
        path = self.path
        if path.is_file():
            return [path]
        if path == folder:
            names = filter(self.names.search, local_files.visible_below(path))
            files = [path / name for name in names]
            self.check(files)
        else:
            files = sorted(filter(Path.is_file, folder.glob(path.name)))
        if not files:
            why = "holds no such file" if path == folder else "does not exist"
            raise ConfigError(f"data source {self.locator!r} {why}; {self.expected}")
        return files


def _with_splits(source: str, read: Sequence[SourceTable]) -> list[SourceTable]:
    """Return the tables of files with the splits that the names of several files say.

    The name of a file that is the whole source need not: crash_test_photos.tfrecord. Of several,
    all have to that hold rows without a split, or none, because such rows would count as train.
    """
    unsaid = [table.name for table in read if not all(row.split for row in table.rows)]
    given = {name: split_of(name) if len(read) > 1 else None for name in unsaid}
    named = [f"{name} ({split})" for name, split in given.items() if split]
    others = [name for name in unsaid if not given[name]]
    if named and others:
        raise ConfigError(
            f"data source {source!r}: some files name a split ({join_names(named)}) and others "
            f"do not ({join_names(others)}). "
            "Expected a word such as train, validation or test in the name of each file, or in "
            "none. Rename the files, or give the split in a column or feature named split."
        )
    return [replace(table, split=given.get(table.name)) for table in read]
