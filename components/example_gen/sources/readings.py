"""A reading of a source: what it gives, and the settings that say so, with the command for it."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgpipe.components.common.formatting import join_names
from imgpipe.components.example_gen.settings import DataSettings, SourceOptions
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.limits import declared

_MOST = 6  # readings that a message shows


@dataclass(frozen=True)
class Reading:
    """One of the ways in which a source can be read."""

    gives: str  # such as its classes
    #: Settings of [data] by name; entries of `skip` are added to those of the user.
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""  # another source than the one that is refused, such as a list in it

    def command(self, where: str, options: SourceOptions) -> str:
        """Return what the reading gives, and the command that checks the source in this way."""
        skip = (*options.skip, *self.settings.get("skip", ()))
        chosen = dataclasses.replace(options, **{**self.settings, "skip": skip})
        words = ["imgpipe check", shlex.quote(self.source or where)]
        for name, declaration in declared(DataSettings).items():
            value = getattr(chosen, name)
            if name != "source" and value != declaration.default:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                words.append(f"--set {shlex.quote(f'data.{name}={text}')}")
        return f"{self.gives}: {' '.join(words)}"


#: Why a source can be read in several ways, and the readings.
Ambiguity = tuple[str, Sequence[Reading]]


class SeveralReadings(ConfigError):
    """A source can be read in several ways, each with other settings of [data]."""

    def __init__(
        self, where: str, options: SourceOptions, why: str, readings: Iterable[Reading]
    ) -> None:
        """Say why, and show the command of each reading."""
        lines = [reading.command(where, options) for reading in readings][:_MOST]
        choose = "\n  ".join([". Choose one:", *lines]) if lines else ""
        super().__init__(f"data source {where!r}: {why}{choose}")


def classes_of(classes: Collection[str]) -> str:
    """Say which classes a reading gives."""
    return f"classes {join_names(sorted(classes))}"
