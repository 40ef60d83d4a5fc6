"""What a run leaves in its folder: timings, artifacts, report and summary, also after an error."""

from __future__ import annotations

import json
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipe.components.report import verdict
from imgpipe.components.report.section import RunState
from imgpipe.models.errors import ImgpipeError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline import inputs as run_inputs
from imgpipe.pipeline import plan as plans
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import signals
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.execution import failures, repetition, summary
from imgpipe.pipeline.output.run_folders import ARTIFACTS, SUMMARY

LOG = "run.log"
#: Step of the display in which the libraries are imported.
LOADING = "loading TensorFlow, TFX"
_TIMINGS = "timings.json"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        exit_code: Exit code of the command line.
        verdict: A sentence for people.
        summary: The summary, as `imgpipe.pipeline.records.run` declares it.
        directory: Folder of the run with its log, summary, report and configuration.
        repeated: Whether it is the outcome of an earlier run, because nothing has changed since.
    """

    exit_code: int
    verdict: str
    summary: dict[str, Any]
    directory: Path
    repeated: bool = False


class RunRecord:
    """Collects what a run finds out, and writes the files that it leaves in its folder.

    Attributes:
        import_seconds: Time that the libraries took to load, in seconds. The run sets it.
        inputs: Inputs of the run, which sets them; None until the images have been found.
        vocabulary: Names of the classes, set by the run; empty until the images have been found.
    """

    def __init__(
        self, config: Config, directory: Path, display: consoles.Display, began: float
    ) -> None:
        """Set up the record of a run.

        Args:
            config: The validated configuration.
            directory: Folder of the run.
            display: Display, which keeps timings and outputs of the finished components.
            began: Start of the run, as `time.monotonic` counts.
        """
        self.import_seconds = 0.0
        self.plan: plans.Plan | None = None
        self.vocabulary: tuple[str, ...] = ()
        self._config, self._directory = config, directory
        self._display, self._began = display, began
        self._settings_key = repetition.settings(config)

    def write_timings(self) -> None:
        """Write the timings so far, which the Report component reads."""
        text = json.dumps(self._timings(), indent=1) + "\n"
        atomic_write(self._directory / _TIMINGS, text)

    def write_artifacts(self) -> None:
        """Write which artifacts this run made or took from the cache."""
        text = json.dumps(self._display.outputs, indent=1) + "\n"
        atomic_write(self._directory / ARTIFACTS, text)

    def close(self, error: BaseException | None) -> Outcome:
        """Write report and summary, and return the outcome.

        Args:
            error: The error that ended the run; None if all components have finished.
        """
        facts, page, unwritten = self._report(error)
        if unwritten is not None and error is None:
            error = failures.known(unwritten, self._config.out)
        state, log = self._state(error, facts), str(self._directory / LOG)
        content = summary.build(facts, self._timings(), page, state.status, state.verdict, log)
        if unwritten is not None:
            content["warnings"].append(
                f"the report could not be written: {failures.cause(unwritten)}"
            )
        self._write_summary(content)
        if error is None and self.plan is not None:
            repetition.remember(self._directory, self._config, self.plan, self._settings_key)
        code = exit_code(error, state.status == "blessed")
        return Outcome(code, state.verdict, content, self._directory)

    def _report(
        self, error: BaseException | None
    ) -> tuple[dict[str, Any], str | None, BaseException | None]:
        """Write the report, and return its facts, its path, and what prevented it."""
        fingerprint = self.plan.fingerprint if self.plan else ""
        settings = run_inputs.report_settings(self._config, self.vocabulary, fingerprint)
        facts: dict[str, Any] = {"settings": settings}
        page = None
        try:
            self.write_timings()
            self.write_artifacts()
            # Drawing the page needs the libraries whose loading was interrupted.
            if not (
                isinstance(error, failures.Interrupted) and self._display.failed_step == LOADING
            ):
                facts = self._facts(error, settings)
                page = self._page(error, facts)
        except (Exception, KeyboardInterrupt, signals.Stopped) as caught:
            traceback.print_exc()  # into the log
            return facts, page, caught
        return facts, page, None

    def _timings(self) -> dict[str, Any]:
        return {
            "total_s": round(time.monotonic() - self._began, 3),
            "import_s": self.import_seconds,
            "components": dict(self._display.timings),
            "cached": list(self._display.cached),
        }

    def _write_summary(self, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        atomic_write(self._directory / SUMMARY, text)

    def _state(self, error: BaseException | None, facts: dict[str, Any]) -> RunState:
        """Status and verdict of the run that this error ended, if there is one."""
        interrupted = isinstance(error, failures.Interrupted)
        cause, log = failures.cause(error), str(self._directory / LOG)
        return verdict.state(facts, cause, self._display.failed_step, log, interrupted)

    def _facts(self, error: BaseException | None, settings: dict[str, object]) -> dict[str, Any]:
        """Facts that the Report component collected, or that are collected here after an error."""
        from imgpipe.components.report import component as report
        from imgpipe.components.report import facts

        file = self._directory / report.FACTS
        if error is None and file.exists():
            return dict(json.loads(file.read_text(encoding="utf-8")))
        return facts.collect(self._uris(error), settings)

    def _page(self, error: BaseException | None, facts: dict[str, Any]) -> str:
        """Path of the report, which is drawn here if the Report component did not run."""
        from imgpipe.components.report import component as report

        page = self._directory / report.PAGE
        if error is not None or not page.exists():
            folders = [str(self._directory)]
            report.draw(facts, self._uris(error), folders, self._state(error, facts))
        return str(page)

    def _uris(self, error: BaseException | None) -> dict[str, str]:
        """URIs of the artifacts of finished components, by their names in the report."""
        from imgpipe.components.report.inputs import REPORTED

        uris = {
            name: self._display.outputs[row.component][row.output]
            for name, row in REPORTED.items()
            if row.output in self._display.outputs.get(row.component, {})
        }
        return uris | (self._refused_blessing() if error else {})

    def _refused_blessing(self) -> dict[str, str]:
        """Folder of DataGate's decision if it refused, since its output was not published."""
        decided = self._config.decision_file
        refused = self._display.failed_step == "DataGate" and decided.exists()
        return {"data_blessing": str(self._config.out)} if refused else {}


def exit_code(error: BaseException | None, blessed: bool) -> int:
    """Return the exit code of a run that ended with ``error``, or with a model where None."""
    if error is None:
        return 0 if blessed else 3
    return error.exit_code if isinstance(error, ImgpipeError) else 1
