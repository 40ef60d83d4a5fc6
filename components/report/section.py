"""The types of the sections of a page, and the data that they are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgpipe.components.data_gate import rules

if TYPE_CHECKING:
    from imgpipe.components.report.page_facts import PageFacts
    from imgpipe.components.report.pictures.thumbnails import Thumbnails
    from imgpipe.components.run_record.timings import Timings
    from imgpipe.components.run_record.verdict import RunState


@dataclass(frozen=True)
class Absent:
    """A section that this run cannot have."""

    why: str  # a sentence
    stopped: bool = False  # because the run stopped before it, which the page says once for all


#: What a section shows: the values for its template, or the reason why it is absent.
SectionContent = Mapping[str, Any] | Absent


@dataclass(frozen=True)
class Context:
    """What a section is built from.

    Attributes:
        facts: Facts of the run, and what its pictures show.
        timings: Durations of the components; None if they are not known.
        thumbnails: Small images by the content hash of the image.
        state: How the run ended.
    """

    facts: PageFacts
    timings: Timings | None
    thumbnails: Thumbnails
    state: RunState

    @property
    def vocabulary(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.facts["settings"]["vocabulary"]

    @property
    def data_reasons(self) -> list[str]:
        """DataGate's reasons for refusing the data as sentences, grouped when there are many."""
        gate = self.facts["data_gate"]
        return rules.summarised(gate["reasons"]) if gate is not None else []

    def with_image(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row about an image with its thumbnail; see `Thumbnails.uri`."""
        return {**row, "image": self.thumbnails.uri(row["image_hash"])}

    def absent(self, what: str) -> Absent:
        """Say what is missing, such as "No model was trained".

        The page says once where the run stopped, if it did.
        """
        return Absent(f"{what}.", stopped=bool(self.state.error))


def _no_images(facts: PageFacts) -> set[str]:
    return set()


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        order: Sections appear on the page in ascending order.
        numbers: Whether it lies in the closed part "Numbers", below the pictures.
        hashes: Function that returns the content hashes of the kept images that it shows. These
            are read, and `Context.with_image` finds them; others have no picture.
    """

    id: str  # anchor, and name of the template
    title: str
    build: Callable[[Context], SectionContent]
    order: int = 0
    template: str = ""  # name of the template if it is not the id
    numbers: bool = False
    hashes: Callable[[PageFacts], set[str]] = _no_images
