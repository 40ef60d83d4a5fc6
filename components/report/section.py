"""The types of the sections of a page, and the data that they are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgpipe.components.data_gate import rules
from imgpipe.models import feature_names as names

if TYPE_CHECKING:
    from imgpipe.components.report.thumbnails import Thumbnails

#: Splits on which the model is evaluated for the page.
MEASURED = (names.VALIDATION, names.TEST)


@dataclass(frozen=True)
class RunState:
    """How the run ended."""

    status: str  # a key of `page.STATUS`
    verdict: str  # the sentence at the top of the page
    error: str = ""  # why the run stopped, "" when it did not
    log: str = ""  # path of the run's log
    failed: str = ""  # the component that stopped it


@dataclass(frozen=True)
class Absent:
    """A section that this run cannot have."""

    why: str  # a sentence
    stopped: bool = False  # because the run stopped before it, which the page says once for all


#: What a section shows: the values for its template, or the reason why it is absent.
Content = Mapping[str, Any] | Absent


@dataclass(frozen=True)
class Context:
    """What a section is built from.

    Attributes:
        facts: Facts of the run by the name of their part, as `facts.collect` returns them. A part
            is missing or None if the run did not get that far.
        timings: Durations of the components; empty if they are not known.
        thumbnails: Small images by the content hash of the image.
        state: How the run ended.
    """

    facts: Mapping[str, Any]
    timings: Mapping[str, Any]
    thumbnails: Thumbnails
    state: RunState

    def part(self, name: str) -> Any:
        """Return a part of the facts; an empty dictionary when it is missing or None."""
        return self.facts.get(name) or {}

    def measured(self, name: str) -> dict[str, Any]:
        """Return a part of the facts by split, for the evaluated splits that it has."""
        found = self.part(name)
        return {split: found[split] for split in MEASURED if found.get(split)}

    @property
    def vocabulary(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return list(self.part("settings").get("vocabulary") or [])

    @property
    def data_reasons(self) -> list[str]:
        """DataGate's reasons for refusing the data as sentences, grouped when there are many."""
        return rules.summarised(self.part("data_gate").get("reasons") or [])

    def with_image(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row about an image with its thumbnail; see `Thumbnails.uri`."""
        return {**row, "image": self.thumbnails.uri(row.get("image_hash"))}

    def absent(self, what: str) -> Absent:
        """Say what is missing, such as "No model was trained".

        The page says once where the run stopped, if it did.
        """
        return Absent(f"{what}.", stopped=bool(self.state.error))


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        order: Sections appear on the page in ascending order.
    """

    id: str  # anchor, and name of the template
    title: str
    build: Callable[[Context], Content]
    order: int = 0
    template: str = ""  # name of the template if it is not the id
