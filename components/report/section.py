"""The types of the sections of a page, and the data that they are built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgpipe.components.data_gate import rules
from imgpipe.components.report import blocks as show
from imgpipe.models.finding import Finding

if TYPE_CHECKING:
    from imgpipe.components.run_record.facts import Facts
    from imgpipe.components.run_record.run_folder import Timings
    from imgpipe.components.run_record.verdict import RunState


@dataclass(frozen=True)
class Context:
    """What a section is built from.

    Attributes:
        facts: Facts of the run, and what its pictures show.
        timings: Durations of the components; None if they are not known.
        state: How the run ended.
    """

    facts: Facts
    timings: Timings | None
    state: RunState

    @property
    def vocabulary(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.facts["settings"]["vocabulary"]

    @property
    def data_reasons(self) -> list[str]:
        """DataGate's reasons for refusing the data as sentences, grouped when there are many."""
        gate = self.facts["data_gate"]
        return rules.first_sentences(gate["reasons"]) if gate is not None else []


#: Yields what a section shows. The page has no section without content.
Build = Callable[[Context], Iterable[show.ResultBlock]]


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        id: Its anchor.
        order: Sections appear on the page in ascending order.
        numbers: Whether it lies in the closed part "Numbers", below the pictures.
    """

    id: str
    title: str
    build: Build
    order: int = 0
    numbers: bool = False


def section(
    anchor: str, title: str, order: int = 0, numbers: bool = False
) -> Callable[[Build], Section]:
    """Return a decorator that makes a section of the function that builds it."""
    return lambda build: Section(anchor, title, build, order, numbers)


def said(findings: Iterable[Finding]) -> Iterator[show.Sentence]:
    """Yield the findings that are sentences, each with what to do."""
    for finding in findings:
        if finding["sentence"]:
            not_used = finding["fate"] == "not_used"
            text = f"Not used: {finding['sentence']}" if not_used else finding["sentence"]
            parts = [text, *finding["remedies"]]
            yield show.Sentence(" ".join(f"{show.capitalised(part)}." for part in parts), "muted")
