"""Commands that read a source in another way, each of which was tried before a message shows it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from imgpipe.components.common.formatting import join_names
from imgpipe.components.example_gen.settings import DataSettings, SourceOptions
from imgpipe.components.example_gen.sources.base import Scan
from imgpipe.components.example_gen.sources.split_names import are_splits
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.limits import declared

_MOST = 6  # readings that a message shows
#: Values of options that differ from those of the user, by name.
OptionChange = dict[str, Any]
#: Function that reads a source with other options.
Scanner = Callable[[SourceOptions], Scan]


class TwoReadings(ConfigError):
    """A source can be read in several ways, each with other settings of [data]."""

    def __init__(self, why: str, *changes: OptionChange) -> None:
        """Say why, and which changes of the options make each reading."""
        super().__init__(why)
        self.changes = changes


def refused(error: TwoReadings, where: str, options: SourceOptions, scan: Scanner) -> ConfigError:
    """Return the error of a source that can be read in several ways, with a command for each.

    Args:
        error: Why, and what the readings change.
        where: The source, as the commands name it.
        options: The options of the user.
        scan: Function that reads the source with other options.
    """
    lines = choices(where, options, error.changes, scan)
    choose = "\n  ".join([". Choose one:", *lines]) if lines else ""
    return ConfigError(f"data source {where!r}: {error}{choose}")


def choices(
    where: str, options: SourceOptions, changes: Iterable[OptionChange], scan: Scanner
) -> list[str]:
    """Return what each reading gives, with the command for it.

    Args:
        where: The source, as the command names it.
        options: The options of the user.
        changes: What the readings change; entries of `skip` are added to those of the user.
        scan: Function that reads the source with other options.

    Returns:
        A line for each change that works. Of equal readings, the first one counts, and classes that
        are splits are none.
    """
    lines: dict[object, str] = {}
    for change in changes:
        skip = (*options.skip, *change.get("skip", ()))
        tried = dataclasses.replace(options, **{**change, "skip": skip})
        with contextlib.suppress(ConfigError):
            reading = scan(tried)
            labels = (tried.root, *((item.path, item.label, item.split) for item in reading.items))
            if not are_splits(reading.vocabulary):
                lines.setdefault(labels, f"{described(reading)}: {command(where, tried)}")
    return list(lines.values())[:_MOST]


def described(scan: Scan) -> str:
    """Say which classes and splits a scan has, and how many files."""
    splits = f" in {join_names(scan.given_splits)}" if scan.given_splits else ""
    return f"classes {join_names(scan.vocabulary)}{splits} ({len(scan.items):,} images)"


def command(where: str, options: SourceOptions) -> str:
    """Return the command that checks a source with all options that differ from the defaults."""
    settings = []
    for name, declaration in declared(DataSettings).items():
        value = getattr(options, name)
        if name != "source" and value != declaration.default:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            settings.append(f"--set {shlex.quote(f'data.{name}={text}')}")
    return " ".join(["imgpipe check", shlex.quote(where), *settings])
