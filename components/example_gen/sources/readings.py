"""Commands that read a source in another way, each of which was tried before a message shows it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import posixpath
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from imgpipe.components.example_gen.sources.base import Scan, SourceOptions, SourceSettings
from imgpipe.components.example_gen.sources.listing import some
from imgpipe.models.errors import ConfigError
from imgpipe.models.limits import declared

_MOST = 6  # readings that a message shows
#: Values of options that differ from those of the user, by name.
OptionChange = dict[str, Any]


class TwoReadings(ConfigError):
    """A source can be read in several ways, each with other settings of [data]."""

    def __init__(
        self, why: str, *changes: OptionChange, renamed: Mapping[str, str] | None = None
    ) -> None:
        """Say why, and which changes of the options make each reading.

        Args:
            why: What can be read in two ways.
            changes: What each reading changes.
            renamed: New names of folders, by their paths, that make a further one.
        """
        super().__init__(why)
        self.changes = changes
        self.renamed = renamed or {}


def choices(
    where: str,
    options: SourceOptions,
    changes: Iterable[OptionChange],
    scan: Callable[[SourceOptions], Scan],
) -> list[str]:
    """Return what each reading gives, with the command for it.

    Args:
        where: The source, as the command names it.
        options: The options of the user.
        changes: What the readings change; entries of `skip` are added to those of the user.
        scan: Function that reads the source with other options.

    Returns:
        A line for each change that works. Of equal readings, the first one counts.
    """
    lines: dict[object, str] = {}
    for change in changes:
        skip = (*options.skip, *change.get("skip", ()))
        tried = dataclasses.replace(options, **{**change, "skip": skip})
        with contextlib.suppress(ConfigError):
            found = scan(tried)
            labels = (tried.root, *((item.path, item.label, item.split) for item in found.items))
            lines.setdefault(labels, f"{described(found)}: {command(where, tried)}")
    return list(lines.values())[:_MOST]


def as_splits(
    where: str, renamed: Mapping[str, str], scan: Callable[[Mapping[str, str]], Scan]
) -> list[str]:
    """Return what a folder gives when folders in it are called as the splits, with the command.

    Args:
        where: The source, as the command names it.
        renamed: Names of splits by paths of folders.
        scan: Function that reads the source with folders of these names.

    Returns:
        One line; none where the source is no folder, or that reading does not work either.
    """
    if not renamed or not Path(where).expanduser().is_dir():
        return []
    with contextlib.suppress(ConfigError):
        found = scan(renamed)
        moves = [
            f"mv {shlex.quote(path)} {shlex.quote(posixpath.join(posixpath.dirname(path), name))}"
            for path, name in renamed.items()
        ]
        commands = [f"(cd {shlex.quote(where)} && {' && '.join(moves)})"]
        commands.append(f"imgpipe check {shlex.quote(where)}")
        return [f"{described(found)}, by other names: {' && '.join(commands)}"]
    return []


def described(scan: Scan) -> str:
    """Say which classes and splits a scan has, and how many files."""
    splits = f" in {some(scan.given_splits)}" if scan.given_splits else ""
    return f"classes {some(scan.vocabulary)}{splits} ({len(scan.items):,} images)"


def command(where: str, options: SourceOptions) -> str:
    """Return the command that checks a source with all options that differ from the defaults."""
    settings = []
    for name, declaration in declared(SourceSettings).items():
        value = getattr(options, name)
        if value != declaration.default:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            settings.append(f"--set {shlex.quote(f'data.{name}={text}')}")
    return " ".join(["imgpipe check", shlex.quote(where), *settings])
