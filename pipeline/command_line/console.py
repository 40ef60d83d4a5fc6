"""The console of a command: it shows progress, and the output of libraries goes to a log.

TFX, Beam, absl and TensorFlow write to standard error, partly from C++. Therefore the file
descriptors themselves are redirected to the log, and the display writes to a copy of the original
one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imgpipe.components.run_record.run_folder import LOG, TASKS
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import quick_imports
from imgpipe.pipeline.command_line import command_process
from imgpipe.pipeline.command_line.terminal import say

_WIDTH_PLAIN = 100  # columns when the output is not a terminal
_WIDE = 90  # columns from which on the name of the component stands beside what it does
#: Columns for what a step does and the name of its component.
_NAMES_WIDE = 46
_NAMES_NARROW = 27
_SOON = 2.0  # seconds after which the rate of a step says how long it takes
_MINUTES_FROM = 100  # seconds from which on a time is given in minutes
#: Symbol and style of a step by its state.
_STATES = {
    "running": ("…", "cyan"),
    "done": ("✓", "green"),
    "cached": ("=", "dim"),
    "failed": ("✗", "bold red"),
    "damaged": ("!", "yellow"),
}


@contextlib.contextmanager
def quiet(directory: Path | None = None, to_stderr: bool = False) -> Iterator[Console]:
    """Redirect file descriptors 1 and 2 to a log, and restore them afterwards.

    Args:
        directory: Folder of a run, which keeps the log and in which temporary files are written;
            None for a folder that is removed.
        to_stderr: Whether the console writes to standard error, because of `--json -`.

    Yields:
        A console that writes to the original standard output or error.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = stack.enter_context(command_process.temporary_folder())
        else:
            stack.enter_context(command_process.temporary_folder_in(directory))
        yield stack.enter_context(_redirected(directory / LOG, to_stderr))


@contextlib.contextmanager
def _redirected(log: Path, to_stderr: bool) -> Iterator[Console]:
    # What Python has buffered belongs to the terminal, and would otherwise end up in the log.
    sys.stdout.flush()
    sys.stderr.flush()
    saved_out = os.dup(1)
    saved_err = os.dup(2)
    # For appending, so that child processes and this one do not overwrite each other's lines.
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    shown = saved_err if to_stderr else saved_out
    encoding = getattr(sys.stderr if to_stderr else sys.stdout, "encoding", None)
    terminal = command_process.open_text(os.dup(shown), encoding, close=True)
    try:
        width = None if terminal.isatty() else _WIDTH_PLAIN
        yield Console(file=terminal, width=width, highlight=False, emoji=False)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        terminal.close()
        os.dup2(saved_out, 1)
        os.dup2(saved_err, 2)
        os.close(saved_out)
        os.close(saved_err)


@dataclass(frozen=True)
class _Goal:
    """How much of a unit there is to do."""

    total: int
    since: float

    def seconds_left(self, count: int) -> float | None:
        """Return how long the rest takes at the rate so far; None if it cannot be told."""
        elapsed = time.monotonic() - self.since
        if not 0 < count < self.total or elapsed < _SOON:
            return None
        return elapsed * (self.total - count) / count


@dataclass
class _ProgressStep:
    """One line of the display."""

    name: str
    started: float
    state: str = "running"  # a key of _STATES
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    goals: dict[str, _Goal] = field(default_factory=dict)
    part: str = ""  # what the step is doing
    part_began: float = 0.0
    left: float | None = None  # seconds that were left when the part began

    def forget(self, unit: str) -> None:
        """Forget what was counted of a unit, and of the units of which all is done."""
        done = [name for name, goal in self.goals.items() if self.counts.get(name) == goal.total]
        for name in (unit, *done):
            self.counts.pop(name, None)
            self.goals.pop(name, None)


class Display:
    """Shows steps with counts and rates.

    On a terminal the display is updated while steps run. Otherwise it prints one line for each
    finished step. It is the listener of `imgpipe.models.machine.progress`.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._steps: list[_ProgressStep] = []
        self._lock = threading.Lock()  # Live draws in a thread, and workers count in others
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._table,
                console=self.console,
                refresh_per_second=5,
                redirect_stdout=False,  # the output of libraries stays in the log
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def started(self, name: str) -> None:
        """Start a step."""
        with self._lock:
            self._steps.append(_ProgressStep(name, time.monotonic()))

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step of the command itself, such as loading libraries, while its body runs."""
        self.started(name)
        try:
            yield
        except BaseException:
            self.ended("failed")
            raise
        self.ended("done")

    def ended(self, state: str) -> None:
        """End the step that was started last, in a state of `_STATES`."""
        with self._lock:
            step = self._steps[-1]
            step.state = state
            step.seconds = time.monotonic() - step.started
        if self._live is None:
            self.console.print(Text.assemble(*self._cells(step)), soft_wrap=True)

    @property
    def failed_step(self) -> str:
        """Name of the step that failed; "" if none did."""
        return next((step.name for step in self._steps if step.state == "failed"), "")

    def advance(self, count: int, unit: str) -> None:
        """See `imgpipe.models.machine.progress.advance`."""
        with self._lock:
            if self._steps:
                counts = self._steps[-1].counts
                counts[unit] = counts.get(unit, 0) + count

    def total(self, count: int, unit: str) -> None:
        """See `imgpipe.models.machine.progress.total`."""
        with self._lock:
            if self._steps:
                step = self._steps[-1]
                step.forget(unit)
                step.goals[unit] = _Goal(count, time.monotonic())

    def part(self, text: str, left: float | None) -> None:
        """See `imgpipe.models.machine.progress.part`."""
        with self._lock:
            if self._steps:
                step = self._steps[-1]
                step.part = text
                step.part_began = time.monotonic()
                step.left = left

    def say(self, text: str) -> None:
        """See `imgpipe.models.machine.progress.say`."""
        say(self.console, f"   {text}")

    def _cells(self, step: _ProgressStep) -> list[tuple[str, str]]:
        """Return the parts of the line of a step, with their styles; the counts are the last."""
        seconds = step.seconds or time.monotonic() - step.started
        mark, style = _STATES[step.state]
        task = TASKS.get(step.name, step.name[:1].upper() + step.name[1:])
        wide = self.console.width >= _WIDE
        component = f" · {step.name}" if wide and step.name in TASKS else ""
        columns = _NAMES_WIDE if wide else _NAMES_NARROW
        space = " " * (columns - len(task) - len(component))
        return [
            (f" {mark} ", style),
            (task, style if step.state != "done" else ""),
            (f"{component}{space}{seconds:6.1f} s  ", "dim"),
            (_counts(step, seconds) if step.state != "cached" else "cached", "dim"),
        ]

    def _table(self) -> Table:
        table = Table.grid()
        with self._lock:
            for step in self._steps:
                for row in self._rows(step):
                    table.add_row(row)
        return table

    def _rows(self, step: _ProgressStep) -> Iterator[Text]:
        """Yield the line of a step; what a running one does gets its own if it would be cut off."""
        *names, counts = self._cells(step)
        row = Text.assemble(*names, counts, no_wrap=True, overflow="ellipsis")
        if step.state == "running" and row.cell_len > self.console.width:
            yield Text.assemble(*names)
            row = Text.assemble("   ", counts, no_wrap=True, overflow="ellipsis")
        yield row


def _counts(step: _ProgressStep, seconds: float) -> str:
    """Return what a step has counted, behind the time that is left, which fits any width."""
    parts = [_time_left(step), step.part] if step.state == "running" else []
    waiting = {unit: 0 for unit in step.goals if unit not in step.counts}
    for unit, count in [*step.counts.items(), *waiting.items()]:
        total = step.goals[unit].total if unit in step.goals else 0
        if step.state == "done" and total and not count:  # workers on other hosts report no counts
            parts.append(f"{total:,} {unit}")
            continue
        of = f" of {total:,}" if total > count else ""
        # A rate over less than half a second, or below one a second, says nothing.
        rate = f" ({count / seconds:,.0f}/s)" if seconds >= 0.5 and count >= seconds else ""
        parts.append(f"{count:,}{of} {unit}{rate}")
    return ", ".join(filter(None, parts))


def _time_left(step: _ProgressStep) -> str:
    """Return the time that a running step still takes; "" if nothing tells."""
    if step.left is not None:
        rest = step.left - (time.monotonic() - step.part_began)
        return f"about {_duration(rest)} left" if rest > 0 else "it takes longer than estimated"
    for unit, goal in reversed(step.goals.items()):
        left = goal.seconds_left(step.counts.get(unit, 0))
        if left is not None:
            return f"{_duration(left)} left"
    return ""


def _duration(seconds: float) -> str:
    """Return a time of at least a second in words."""
    if seconds < _MINUTES_FROM:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min"


@contextlib.contextmanager
def computing(to_stderr: bool = False) -> Iterator[Display]:
    """Load TensorFlow, and show the steps of a command that computes with it; see `counted`."""
    with counted(to_stderr) as display:
        # A step of its own, so that the rate of the next step is that of the images.
        with display.step("loading TensorFlow"), quick_imports():
            import tensorflow  # noqa: F401
        yield display


@contextlib.contextmanager
def counted(to_stderr: bool = False, directory: Path | None = None) -> Iterator[Display]:
    """Show the steps of a command with what the code below counts; see `quiet`."""
    with (
        quiet(directory, to_stderr) as console,
        Display(console) as display,
        progress.shown_by(display),
    ):
        yield display
