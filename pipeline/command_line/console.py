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
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from imgpipe.components.run_record.run_folder import LOG, TASKS
from imgpipe.models.machine import progress
from imgpipe.pipeline.command_line import command_process
from imgpipe.pipeline.command_line.terminal import say

_WIDTH_PLAIN = 200  # columns when the output is not a terminal, so that no line is broken
_WIDE = 90  # columns from which on the name of the component stands beside what it does
#: Columns for what a step does and the name of its component.
_NAMES_WIDE = 49
_NAMES_NARROW = 30
_RATE_PERIOD = 300.0  # seconds over which the rate of a running step is taken, if it takes longer
_SOON = 0.5  # seconds of a step below which its rate says nothing
_MINUTES_FROM = 100  # seconds from which on a time is given in minutes
#: What a step does, in the markup of Rich, by its state.
_STATES = {
    "running": " [cyan]… {}[/]",
    "done": " [green]✓[/] {}",
    "cached": " [dim]= {}[/]",
    "failed": " [bold red]✗ {}[/]",
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


class _StepColumn(ProgressColumn):
    """State and task of a step, and its component where there is room."""

    def __init__(self, console: Console) -> None:
        super().__init__(Column(no_wrap=True))
        self._console = console

    def render(self, task: Task) -> Text:
        """Return the cell of a step."""
        name = task.description
        words = TASKS.get(name, name[:1].upper() + name[1:])
        cell = Text.from_markup(_STATES[task.fields["state"]].format(words))
        wide = self._console.width >= _WIDE
        if wide and name in TASKS:
            cell.append(f" · {name}", "dim")
        cell.truncate(_NAMES_WIDE if wide else _NAMES_NARROW, pad=True)
        return cell


class _CountsColumn(ProgressColumn):
    """What a step is doing and has counted, behind the time that is left."""

    def render(self, task: Task) -> Text:
        """Return the cell of a step."""
        state = task.fields["state"]
        counted = task.fields["counts"].tasks
        words = ["cached"] if state == "cached" else [_count(unit, task) for unit in counted]
        if state == "running":
            words = [_time_left(task, counted), task.fields["part"], *words]
        return Text(", ".join(filter(None, words)), "dim")


def _count(unit: Task, step: Task) -> str:
    """Return how much of a unit is done, and how many a second; of an ended step over all of it."""
    total = round(unit.total or 0)
    state = step.fields["state"]
    if state == "done" and not unit.completed:  # workers on other hosts report no counts
        return f"{total:,} {unit.description}"
    of = f" of {total:,}" if total > unit.completed else ""
    speed = unit.speed or 0
    if state != "running":  # what was counted last may be a repetition from a cache
        seconds = step.elapsed or 0
        speed = unit.completed / seconds if seconds > _SOON else 0
    rate = f" ({speed:,.0f}/s)" if speed >= 1 else ""
    return f"{unit.completed:,.0f}{of} {unit.description}{rate}"


def _time_left(step: Task, counted: Sequence[Task]) -> str:
    """Return the time that a running step still takes; "" if nothing tells."""
    ends = step.fields["ends"]
    if ends is not None:
        rest = ends - step.get_time()
        return f"about {_duration(rest)} left" if rest > 0 else "it takes longer than estimated"
    times = [*filter(None, (unit.time_remaining for unit in counted))]
    return f"{_duration(times[-1])} left" if times else ""


def _duration(seconds: float) -> str:
    """Return a time of at least a second in words."""
    if seconds < _MINUTES_FROM:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min"


class Display:
    """Shows steps with counts and rates.

    On a terminal the display is updated while steps run. Otherwise it prints one line for each
    finished step. It is the listener of `imgpipe.models.machine.progress`.

    Attributes:
        console: Where it shows them.
        failed_step: Name of the step that failed; "" if none did.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.failed_step = ""
        self._steps = Progress(
            _StepColumn(console),
            TextColumn("{task.elapsed:5.1f} s ", "dim"),
            _CountsColumn(),
            console=console,
            refresh_per_second=5,
            redirect_stdout=False,  # the output of libraries stays in the log
            redirect_stderr=False,
            disable=not console.is_interactive,
        )
        self._counts = self._new_counts()
        self._lock = threading.Lock()  # workers count in several threads

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *exception: object) -> None:
        self._steps.stop()

    def _new_counts(self) -> Progress:
        """Return the counts of one step, a task for each unit, of which nothing is drawn."""
        return Progress(console=self.console, speed_estimate_period=_RATE_PERIOD, disable=True)

    def started(self, name: str) -> None:
        """Start a step."""
        self._steps.start()  # not before there is a step: it would leave an empty line
        self._counts = self._new_counts()
        self._steps.add_task(
            name, total=None, state="running", part="", ends=None, counts=self._counts
        )

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
        step = self._steps.tasks[-1]
        self._steps.stop_task(step.id)
        self._steps.update(step.id, state=state)
        if state == "failed":
            self.failed_step = step.description
        if self._steps.disable:
            self.console.print(self._steps.make_tasks_table([step]))

    def advance(self, count: int, unit: str) -> None:
        """See `imgpipe.models.machine.progress.advance`."""
        with self._lock:
            counts = self._counts
            known = {task.description: task.id for task in counts.tasks}
            if unit not in known:
                known[unit] = counts.add_task(unit, total=None)
            counts.advance(known[unit], count)

    def total(self, count: int, unit: str) -> None:
        """See `imgpipe.models.machine.progress.total`."""
        with self._lock:
            for task in self._counts.tasks:
                if task.finished or task.description == unit:
                    self._counts.remove_task(task.id)
            self._counts.add_task(unit, total=count)

    def part(self, text: str, left: float | None) -> None:
        """See `imgpipe.models.machine.progress.part`."""
        ends = None if left is None else self._steps.get_time() + left
        for number in self._steps.task_ids[-1:]:
            self._steps.update(number, part=text, ends=ends)

    def say(self, text: str) -> None:
        """See `imgpipe.models.machine.progress.say`."""
        say(self.console, f"   {text}")


@contextlib.contextmanager
def counted(to_stderr: bool = False, directory: Path | None = None) -> Iterator[Display]:
    """Show the steps of a command with what the code below counts; see `quiet`."""
    with (
        quiet(directory, to_stderr) as console,
        Display(console) as display,
        progress.shown_by(display),
    ):
        yield display
