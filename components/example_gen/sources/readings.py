"""A reading of a source: what it gives, and the settings that say so, with the command for it."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from imgpipe.components.common.formatting import join_names
from imgpipe.components.example_gen.settings import DataSettings, SourceOptions
from imgpipe.components.example_gen.sources.base import Scan
from imgpipe.components.example_gen.sources.split_names import are_splits
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.limits import declared

_MOST = 6  # readings that a message shows


@dataclass(frozen=True)
class Reading:
    """One of the ways in which a source can be read."""

    #: Settings of [data] by name; entries of `skip` are added to those of the user.
    settings: dict[str, Any] = field(default_factory=dict)
    gives: str = ""  # such as its classes; "" before it is tried
    source: str = ""  # another source than the one that is refused, such as a list in it

    def chosen(self, options: SourceOptions) -> SourceOptions:
        """Return the options of the user with the settings of the reading."""
        skip = (*options.skip, *self.settings.get("skip", ()))
        return dataclasses.replace(options, **{**self.settings, "skip": skip})

    def command(self, where: str, options: SourceOptions) -> str:
        """Return what the reading gives, and the command that checks the source in this way."""
        chosen = self.chosen(options)
        words = ["imgpipe check", shlex.quote(self.source or where)]
        for name, declaration in declared(DataSettings).items():
            value = getattr(chosen, name)
            if name != "source" and value != declaration.default:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                words.append(f"--set {shlex.quote(f'data.{name}={text}')}")
        return f"{self.gives}: {' '.join(words)}"


class Ambiguity(Exception):
    """A tree can be read in several ways, and `readings` may be some of them."""

    def __init__(self, why: str, readings: Iterable[Reading]) -> None:
        """Say why."""
        super().__init__(why)
        self.readings = readings


def those_that_read(
    readings: Iterable[Reading], options: SourceOptions, read: Callable[[SourceOptions], Scan]
) -> Iterator[Reading]:
    """Yield the readings with which `read` returns classes, with the classes and splits of each."""
    for reading in readings:
        try:
            scan = read(reading.chosen(options))
        except (ConfigError, Ambiguity):
            continue
        unlabelled = sum(not item.label for item in scan.items)
        if 2 * unlabelled <= len(scan.items) and not are_splits(scan.vocabulary):
            yield dataclasses.replace(reading, gives=given_by(scan))


class SeveralReadings(ConfigError):
    """A source can be read in several ways, each with other settings of [data]."""

    def __init__(
        self, where: str, options: SourceOptions, why: str, readings: Iterable[Reading]
    ) -> None:
        """Say why, and show the command of each reading."""
        lines = [reading.command(where, options) for reading in readings][:_MOST]
        choose = "\n  ".join([". Choose one:", *lines]) if lines else ""
        super().__init__(f"data source {where!r}: {why}{choose}")


def given_by(scan: Scan) -> str:
    """Say which classes and splits a scan gives."""
    splits = f" in {join_names(scan.given_splits)}" if scan.given_splits else ""
    return f"classes {join_names(scan.vocabulary)}{splits}"
