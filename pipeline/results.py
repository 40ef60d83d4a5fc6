"""Results of the functions of the Python interface: a run, a check, an evaluation, an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.pipeline.run_result import Run, frame, show

__all__ = ["Check", "Evaluation", "Export", "Run"]

if TYPE_CHECKING:
    from imgpipe.pipeline.commands.check import Examined
    from imgpipe.pipeline.published.evaluation import EvaluationRequest


class _Page:
    """A result with a page."""

    verdict: str

    @cached_property
    def html(self) -> str:
        """The page as one HTML file; the images that it shows are read now."""
        return self._render()

    def _render(self) -> str:
        raise NotImplementedError

    def save(self, file: str | Path) -> Path:
        """Write the page to a file.

        Args:
            file: Path of the HTML file.

        Returns:
            Its absolute path.
        """
        from imgpipe.models.files.atomic_write import atomic_write

        path = Path(file).expanduser().absolute()
        atomic_write(path, self.html)
        return path

    def show(self) -> None:
        """Display the page in the output of a notebook's cell; elsewhere use `save`."""
        show(self, self.verdict)

    def _repr_html_(self) -> str:
        """Return the page in a frame, as notebooks display it."""
        return frame(self.html)


@dataclass(frozen=True)
class Check(_Page):
    """The result of a check.

    Attributes:
        verdict: The sentence that the command prints.
        refused: Whether a run would refuse the data.
        reasons: Why it would, as sentences.
        summary: What ``imgpipe check --json`` writes, which the reference documents.
    """

    verdict: str
    refused: bool
    reasons: tuple[str, ...]
    summary: Mapping[str, Any] = field(repr=False)
    _examined: Examined = field(repr=False, compare=False)

    def _render(self) -> str:
        from imgpipe.components import source_check
        from imgpipe.components.report.check_page import paths_shown
        from imgpipe.pipeline.commands.check import page

        found = self._examined
        shown = paths_shown(found.judged)
        images = source_check.read_images(found.plan, found.judged, shown)
        return page(replace(found, images=images))


@dataclass(frozen=True)
class Evaluation(_Page):
    """What a published model answers for labelled images.

    Attributes:
        verdict: The sentence that the command prints.
        summary: What ``imgpipe evaluate --json`` writes, which the reference documents.
    """

    verdict: str
    summary: Mapping[str, Any] = field(repr=False)
    _request: EvaluationRequest = field(repr=False, compare=False)

    @property
    def accuracy(self) -> float:
        """Share of the judged images that are predicted correctly, from 0 to 1."""
        return float(self.summary["accuracy"])

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of the accuracy, 95 %."""
        low, high = self.summary["ci95"]
        return float(low), float(high)

    @property
    def passed(self) -> bool:
        """Whether the accuracy reaches the threshold."""
        return bool(self.summary["passed"])

    def _render(self) -> str:
        from imgpipe.components.report.evaluation_page import render
        from imgpipe.pipeline.command_line import console as consoles
        from imgpipe.pipeline.published import evaluation

        with consoles.quiet(to_stderr=True):
            images = evaluation.shown_images(self._request, self.summary)
        return render(self.summary, images)


@dataclass(frozen=True)
class Export:
    """A file that was written for other programs.

    Attributes:
        file: Its absolute path.
        largest_difference: Largest difference of a probability from the served model, on the images
            that were compared.
        summary: ``file``, ``bytes``, ``model``, ``version``, ``classes``, ``parity`` (comparison
            with the served model), and ``judged`` (the accuracies of a LiteRT file).
    """

    file: Path
    largest_difference: float
    summary: Mapping[str, Any] = field(repr=False)
