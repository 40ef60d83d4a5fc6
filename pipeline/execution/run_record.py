"""What a run leaves in its folder: timings, artifacts, report and summary, also after an error."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.image_filter.findings import make_finding
from imgpipe.components.report.commands import next_commands
from imgpipe.components.report.page_facts import PageFacts, collect, empty
from imgpipe.components.run_record import verdict
from imgpipe.components.run_record.facts import ShownSettings
from imgpipe.components.run_record.run_files import (
    ARTIFACTS,
    FACTS,
    LOG,
    PAGE,
    SUMMARY,
    TIMINGS,
)
from imgpipe.components.run_record.timings import Timings
from imgpipe.components.run_record.verdict import RunState
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.machine import progress
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import signals
from imgpipe.pipeline.command_line.console import Display
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.configuration.toml_text import to_toml
from imgpipe.pipeline.definition.plan import Plan, report_settings
from imgpipe.pipeline.execution import failures
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.records.run_summary import summarised
from imgpipe.pipeline.results import Run

if TYPE_CHECKING:
    from imgpipe.pipeline.runners.local import NodeResult

#: Step of the display in which the libraries are imported.
LOADING = "loading TensorFlow, TFX"


@contextlib.contextmanager
def begun(
    folder: OutputFolder, config: Config, to_stderr: bool, began: float
) -> Iterator[RunRecord]:
    """Begin a run, and end it with its outcome, also after an error in the block.

    Args:
        folder: The output folder, whose lock the caller holds.
        config: The configuration, with absolute paths.
        to_stderr: Whether progress is printed to standard error instead of standard output.
        began: When the command began, as a time of `time.monotonic`.

    Raises:
        OSError: The folder cannot be written.
    """
    directory = folder.new_run(to_toml(config))
    with consoles.counted(to_stderr, directory) as display:
        run = RunRecord(config, directory, display, began)
        error: BaseException | None = None
        try:
            yield run
        except (KeyboardInterrupt, signals.Stopped):
            error = failures.Interrupted()
        except Exception as caught:
            traceback.print_exc()  # into the log
            error = failures.actionable(caught, folder.path)
        with progress.silent():
            run.outcome = run.close(error)


def _write(file: Path, content: object) -> None:
    atomic_write(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


class RunRecord:
    """Collects what a run finds out, as the observer of its runner, and writes it to its folder.

    Attributes:
        directory: Folder of the run.
        display: Display of the steps.
        import_seconds: Time that the libraries took to load, in seconds. The run sets it.
        plan: The plan of the run, None until the run has made it.
        outputs: URI of each output of the components that have finished, by component and name.
        outcome: The outcome, as soon as the run has ended.
    """

    outcome: Run

    def __init__(self, config: Config, directory: Path, display: Display, began: float) -> None:
        self.directory = directory
        self.display = display
        self.import_seconds = 0.0
        self.plan: Plan | None = None
        self.outputs: dict[str, dict[str, str]] = {}
        self._config = config
        self._began = began
        self._seconds: dict[str, float] = {}
        self._cached: list[str] = []
        self._failed_step = ""

    # --- events --------------------------------------------------------------------------------
    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step of the run itself, such as loading libraries, while its body runs."""
        self._failed_step = name
        with self.display.step(name):
            yield
        self._failed_step = ""

    def started(self, name: str) -> None:
        """See `runners.local.Observer`."""
        signals.check()  # the node before may have swallowed the exception of a signal
        if name == "Report":  # which reads the timings from this file
            _write(self.directory / TIMINGS, self._timings())
        self.display.started(name)

    def finished(self, result: NodeResult) -> None:
        """See `runners.local.Observer`."""
        self._seconds[result.name] = round(result.seconds, 3)
        self.outputs[result.name] = result.outputs
        # A component that made a damaged artifact again has finished before, from the cache.
        self._cached = [name for name in self._cached if name != result.name]
        if result.cached:
            self._cached.append(result.name)
        _write(self.directory / ARTIFACTS, self.outputs)  # also for a run that will be killed
        self.display.ended("cached" if result.cached else "done")

    def failed(self, name: str, seconds: float) -> None:
        """See `runners.local.Observer`."""
        self._seconds[name], self._failed_step = round(seconds, 3), name
        self.display.ended("failed")

    def damaged(self, name: str, what: str) -> None:
        """See `runners.local.Observer`."""
        self.display.ended("damaged")
        self.display.say(f"{what}. It is made again.")

    # --- the end -------------------------------------------------------------------------------
    def close(self, error: BaseException | None) -> Run:
        """Write report and summary, and return the outcome.

        Args:
            error: The error that ended the run; None if all components have finished.
        """
        # Without a plan, the classes are not known.
        plan = self.plan
        settings = json.loads(plan.report) if plan else report_settings(self._config)
        facts = empty(settings)
        page, unwritten = None, ""
        try:
            _write(self.directory / TIMINGS, self._timings())
            # Drawing the page needs the libraries whose loading was interrupted.
            if not isinstance(error, failures.Interrupted) or self._failed_step != LOADING:
                facts = self._reported(error, settings)
                page = str(self.directory / PAGE)
        except (Exception, KeyboardInterrupt, signals.Stopped) as caught:
            traceback.print_exc()  # into the log
            unwritten = f"the report could not be written: {failures.cause(caught)}"
            error = error or failures.actionable(caught, self._config.places.out)
        state = self._state(error, facts)
        timings = self._timings()
        commands = next_commands(facts, state.status, timings, self._cached)
        content = summarised(facts, timings, self._cached, page, state, commands)
        content["findings"] += [make_finding("no_report", unwritten)] if unwritten else []
        _write(self.directory / SUMMARY, content)
        code = 3 if content["push"]["status"] == "refused" else 0
        if error is not None:
            code = failures.exit_code(error)
        return Run(self.directory, content, exit_code=code)

    def _reported(self, error: BaseException | None, settings: ShownSettings) -> PageFacts:
        """Return the facts of the page, which is drawn here unless the component Report did."""
        from imgpipe.components.report import report

        file = self.directory / FACTS
        if error is None and file.exists() and (self.directory / PAGE).exists():
            facts: PageFacts = json.loads(file.read_text(encoding="utf-8"))
            return facts
        uris = self._uris()
        facts = collect(uris, settings)
        return report.draw(facts, uris, [str(self.directory)], self._state(error, facts))

    def _uris(self) -> dict[str, str]:
        """Return the artifacts that the report reads, by the names of `collect.REPORTED`."""
        from imgpipe.components.run_record.collect import REPORTED

        uris = {
            name: self.outputs[row.component][row.output]
            for name, row in REPORTED.items()
            if row.output in self.outputs.get(row.component, {})
        }
        if self._failed_step == "DataGate" and self._config.places.decision.exists():
            # The copy of its decision, since the output of a component that failed is not kept.
            uris["data_blessing"] = str(self._config.places.out)
        return uris

    def _timings(self) -> Timings:
        return {
            "total_s": round(time.monotonic() - self._began, 3),
            "import_s": self.import_seconds,
            "components": self._seconds,
        }

    def _state(self, error: BaseException | None, facts: PageFacts) -> RunState:
        """Status and verdict of the run that this error ended, if there is one."""
        interrupted = isinstance(error, failures.Interrupted)
        cause, log = failures.cause(error), str(self.directory / LOG)
        return verdict.state(facts, cause, self._failed_step, log, interrupted)
