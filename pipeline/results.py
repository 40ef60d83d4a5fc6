"""Results of the functions of the Python interface, and how notebooks and browsers show them.

That of a run is `imgpipe.pipeline.output.run.Run`.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from imgpipe.components.run_record.result import Result, WithResult
from imgpipe.models.finding import said
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import output_files
from imgpipe.pipeline.command_line.terminal import new_console


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
        show_page(self, self.verdict)

    def _repr_html_(self) -> str:
        """Return the page in a frame, as notebooks display it."""
        return in_frame(self.html)


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
    def accuracy(self) -> float | None:
        """Share of the images that are predicted correctly, from 0 to 1; None if none is new."""
        return self.metrics["evaluation"]["accuracy"]

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


def show_page(result: object, verdict: str, page: Path | None = None) -> None:
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


def in_frame(page: str) -> str:
    """Wrap a page in a frame of its own, so that its style and its security policy stay its own."""
    return (
        '<iframe sandbox="allow-popups" style="width: 100%; height: 800px; border: 0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )
