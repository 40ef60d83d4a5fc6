"""Results of the functions of the Python interface: a run, a check, an evaluation, an export."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from imgpipe.components.run_record.result import Result, WithResult
from imgpipe.components.run_record.run_folder import LOG
from imgpipe.models.errors import ImgpipeError
from imgpipe.models.finding import said
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import output_files
from imgpipe.pipeline.command_line.terminal import new_console
from imgpipe.pipeline.output.past_run import PastRun


@dataclass(frozen=True)
class Run(PastRun):
    """The outcome of a run that has just ended.

    Attributes:
        folder: Folder of the run with its report, result, log and configuration.
        result: The result that `--json` writes, which the reference documents.
        exit_code: Exit code that `imgpipe run` would have ended with; 0 for a published model.
        repeated: Whether it is the outcome of an earlier run, because nothing has changed since.
        freed: Bytes of artifacts that were removed at the end, because they are no longer needed.
    """

    exit_code: int = 0
    repeated: bool = False
    freed: int = 0

    @property
    def blessed(self) -> bool:
        """Whether the model passed all gates."""
        return self.status in ("blessed", "not_published")

    @property
    def accuracy(self) -> float | None:
        """The accuracy that decided about the model, from 0 to 1; None if none was evaluated.

        `result["gate"]["decided_by"]` says whether it is that of the folds or of the validation
        split, and on how many images.
        """
        return self.decided_by["accuracy"] if self.decided_by is not None else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson interval of this accuracy, 95 %; None if no model was evaluated."""
        if self.decided_by is None:
            return None
        low, high = self.decided_by["ci95"]
        return float(low), float(high)

    def raise_for_status(self) -> Run:
        """Return the run itself if its model is published, otherwise raise the verdict.

        Raises:
            ImgpipeError: The model is not published; `exit_code` is that of the command line.
        """
        if self.exit_code:
            error = ImgpipeError(f"{self.verdict}. Log: {self.folder / LOG}")
            error.exit_code = self.exit_code
            raise error
        return self

    def show(self) -> None:
        """Display the page: in the output of a notebook's cell, otherwise in a browser."""
        _show(self, self.verdict, self.report)

    def _repr_html_(self) -> str | None:
        """Return the page in a frame, as notebooks display it; None if there is no page."""
        return _frame(self.report.read_text("utf-8")) if self.report else None


@dataclass(frozen=True)
class _Page(WithResult):
    """A result with a page."""

    result: Result = field(repr=False)
    _draw: Callable[[], str] = field(repr=False, compare=False)

    @cached_property
    def html(self) -> str:
        """The page as one HTML file; the images that it shows are read now."""
        with consoles.quiet(to_stderr=True):
            return self._draw()

    def save(self, file: str | Path) -> Path:
        """Write the page to an HTML file, and return the absolute path of the file."""
        from imgpipe.models.files.atomic_write import atomic_write

        path = Path(file).expanduser().absolute()
        atomic_write(path, self.html)
        return path

    def show(self) -> None:
        """Display the page in the output of a notebook's cell; elsewhere use `save`."""
        _show(self, self.verdict)

    def _repr_html_(self) -> str:
        """Return the page in a frame, as notebooks display it."""
        return _frame(self.html)


@dataclass(frozen=True)
class Check(_Page):
    """The result of a check."""

    @property
    def refused(self) -> bool:
        """Whether a run would refuse the data."""
        return self.status == "refused"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it would, as sentences."""
        gate = self.result["data_gate"]
        return tuple(map(said, gate["reasons"])) if gate is not None else ()


@dataclass(frozen=True)
class Evaluation(_Page):
    """What a published model answers for labelled images."""

    @property
    def accuracy(self) -> float:
        """Share of the judged images that are predicted correctly, from 0 to 1."""
        return float(self.metrics["evaluation"]["accuracy"] or 0.0)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of the accuracy, 95 %."""
        low, high = self.metrics["evaluation"]["ci95"]
        return float(low), float(high)

    @property
    def passed(self) -> bool:
        """Whether the accuracy reaches the threshold."""
        return self.status == "evaluated"


@dataclass(frozen=True)
class Export:
    """A file, or a folder with a SavedModel, that was written for other programs.

    Attributes:
        file: Its absolute path.
        largest_difference: Largest difference of a probability from the served model, on the images
            that were compared.
        summary: `file`, `bytes`, `model`, `version`, `classes`, and `parity` (comparison with the
            served model and both accuracies, None for a SavedModel).
    """

    file: Path
    largest_difference: float
    summary: Mapping[str, Any] = field(repr=False)


def _show(result: object, verdict: str, page: Path | None = None) -> None:
    """Display a result in a notebook's cell, otherwise its page in a browser, or its verdict."""
    # IPython in a terminal cannot display HTML.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    kinds = {kind.__name__ for kind in type(shell).__mro__}
    if shell is not None and "TerminalInteractiveShell" not in kinds:
        from IPython.display import display

        display(result)
    elif page is not None:
        print(page)
        output_files.show(page.as_uri(), new_console())
    else:
        print(verdict)


def _frame(page: str) -> str:
    """Wrap a page in a frame of its own, so that its style and its security policy stay its own."""
    return (
        '<iframe sandbox="allow-popups" style="width: 100%; height: 800px; border: 0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )
