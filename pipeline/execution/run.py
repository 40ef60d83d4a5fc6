"""Executes one run on this machine, from the scan of the source to the report.

TensorFlow and TFX are imported inside of functions, while a thread hashes the images.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from imgpipe.components.example_gen.sources import Scan
from imgpipe.components.report import identity, verdict
from imgpipe.models import progress
from imgpipe.models.errors import ImgpipeError, ResourceError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline import component_names
from imgpipe.pipeline import inputs as run_inputs
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import signals
from imgpipe.pipeline.configuration import beam_options
from imgpipe.pipeline.configuration.config import Config, to_toml, tuned
from imgpipe.pipeline.execution import failures, mlflow_log, repetition, summary
from imgpipe.pipeline.output import metadata_file, run_folders, run_lock, temporary
from imgpipe.pipeline.output.run_folders import ARTIFACTS, CONFIG, RUNS, SUMMARY
from imgpipe.pipeline.source import opened, scan

if TYPE_CHECKING:
    from imgpipe.pipeline.runners.local import NodeResult

LOG, TUNED = "run.log", "tuned.toml"
_LOADING = "loading TensorFlow, TFX"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
      exit_code: Exit code of the command line.
      verdict: A sentence for people.
      summary: The summary, as `imgpipe.pipeline.execution.summary` describes it.
      directory: Folder of the run with its log, summary, report and configuration.
      repeated: Whether it is the outcome of an earlier run, because nothing has changed since.
    """

    exit_code: int
    verdict: str
    summary: dict[str, Any]
    directory: Path
    repeated: bool = False


def execute(config: Config, start: str | None = None, to_stderr: bool = False) -> Outcome:
    """Run the pipeline.

    Args:
      config: The validated configuration.
      start: Component from which on cached outputs are not used. None to use all of them.
      to_stderr: Whether progress is printed to standard error instead of standard output.

    Returns:
      The outcome, also of a run that failed in a component.

    Raises:
      ImgpipeError: The run could not start: wrong source, locked output folder, no permission.
    """
    try:
        return _execute(config, start, to_stderr)
    except Exception as error:
        if (known := failures.known(error, config.out)) is error:
            raise
        raise known from error


def _execute(config: Config, start: str | None, to_stderr: bool) -> Outcome:
    began = time.monotonic()
    # All that can refuse the run at once comes before the imports and before the folder is changed.
    start = start and component_names.find(start, config)
    run_inputs.check_files(config)
    mlflow_log.check(config.run.mlflow)
    beam_options.require_local_artifacts(config)
    opened(config).listing()  # reports a wrong folder before the imports, which take seconds
    out = config.out
    with _locked(out):
        metadata_file.require_usable(out)
        metadata_file.forget_stale_copy(out)
        temporary.sweep(out)
        # With --from, some components are executed in any case.
        listed, repeated = _repeated(config, began) if start is None else (None, None)
        if repeated is not None:
            return repeated
        directory = run_folders.create(out / RUNS)
        atomic_write(directory / CONFIG, to_toml(config.with_absolute_paths()))
        identity.note_start(directory, sys.argv)
        with (
            temporary.below(directory),
            consoles.quiet(directory / LOG, to_stderr) as console,
            consoles.Display(console) as display,
        ):
            return _Run(config, directory, console, display, began, listed).go(start)


def _repeated(config: Config, began: float) -> tuple[Scan | None, Outcome | None]:
    """Outcome of an earlier run that this one would repeat, and the images if they were listed."""
    directory = repetition.candidate(config, config.out / RUNS)
    if directory is None:
        return None, None
    listed = scan(config)
    found = repetition.summary(directory, config, run_inputs.find(config, listed))
    if found is None:
        return listed, None
    total = round(time.monotonic() - began, 3)
    found["timings"] = {"total_s": total, "import_s": 0.0, "components": {}}
    code = exit_code(None, found["blessed"])
    return listed, Outcome(code, found["verdict"], found, directory, repeated=True)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Create and lock the output folder for one run."""
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            advice = "Wait for it, or use another folder: --out OUT."
            busy = f"another run is working in {out}. {advice}"
            stack.enter_context(run_lock.locked(out, busy))
        except OSError as error:
            why = error.strerror if out.is_dir() or not out.exists() else "it is a file"
            raise ResourceError(
                f"cannot write to {out}: {why}. Expected a folder that can be written; name "
                "another one with --out OUT."
            ) from None
        yield


class _Run:
    """The state of a run in progress."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        console: Console,
        display: consoles.Display,
        began: float,
        listed: Scan | None = None,
    ) -> None:
        self.config, self.directory = config, directory
        self.listed = listed
        self.inputs: run_inputs.RunInputs | None = None
        self.console, self.display, self.began = console, display, began
        self.import_seconds = 0.0
        self.vocabulary: tuple[str, ...] = ()

    def go(self, start: str | None) -> Outcome:
        """Run the pipeline and report its outcome, also after an error."""
        error: BaseException | None = None
        progress.attach(self.display)
        try:
            self._pipeline(start)
        except (KeyboardInterrupt, signals.Stopped):
            error = failures.Interrupted()
        except Exception as caught:
            traceback.print_exc()  # into the log
            error = failures.known(caught, self.config.out)
        finally:
            progress.attach(None)
        return self._outcome(error)

    def _pipeline(self, start: str | None) -> None:
        found: dict[str, Any] = {}  # result of the thread: "scan", or "error"

        def hash_images() -> None:
            try:
                with progress.silent():  # the display shows the loading of libraries meanwhile
                    found["scan"] = self.listed or scan(self.config)
                    self.listed = None  # `found` has to hold the only reference, see below
            except BaseException as caught:  # Python would only print it; the main thread raises it
                found["error"] = caught

        # A daemon, so that an interrupted run does not wait until all images are hashed.
        hashing = threading.Thread(target=hash_images, name="scan", daemon=True)
        hashing.start()
        loading = time.monotonic()
        with self.display.step(_LOADING):
            from imgpipe.models import distribution

            # A strategy of several workers has to exist before TensorFlow runs anything.
            distribution.prepare(self.config.train.strategy)
            from imgpipe.pipeline import graph, plan
            from imgpipe.pipeline.runners import local
        self.import_seconds = round(time.monotonic() - loading, 3)
        with self.display.step("finding the images"):
            hashing.join()
            if "error" in found:
                raise found["error"]
            progress.advance(len(found["scan"].items))
        with self.display.step("finding weights"):  # before time is spent on the images
            settings = self.config.settings
            settings.backbone_spec().fetch(settings.size)
        self.vocabulary = tuple(found["scan"].vocabulary)
        # The listing is freed here: 300 bytes an image, while the components run.
        inputs = run_inputs.find(self.config, found.pop("scan"))
        self.inputs = inputs
        run_inputs.freeze_schema(self.config, inputs)
        # What an earlier run decided must not be taken for the decision of this one.
        self.config.decision_file.unlink(missing_ok=True)
        storage = graph.Storage(
            root=str(self.config.out / "artifacts"),
            metadata=local.metadata_config(self.config.out / metadata_file.NAME),
            run_directory=str(self.directory),
        )
        local.prepare_workers(beam_options.arguments(self.config.beam), self.directory)
        pipeline = graph.create_pipeline(self.config, plan.known(self.config, inputs), storage)
        local.run(pipeline, self._observer(inputs), _from(pipeline, start))

    def _observer(self, inputs: run_inputs.RunInputs) -> Any:
        """Observer that updates the display, the timings for the report and the schema."""
        outer = self

        class Observer:
            def started(self, name: str) -> None:
                signals.check()  # the node before may have swallowed the exception of a signal
                if name == "Report":  # which reads the timings from this file
                    outer._write_timings()
                outer.display.started(name)

            def finished(self, result: NodeResult) -> None:
                outer.display.finished(result)
                outer._write_artifacts()  # also for a run that will be killed
                if result.name == "DataGate":
                    outer._keep_decision(result.outputs["blessing"])
                    if not inputs.accepted_schema:
                        outer._keep_schema(inputs.data_key)

            failed = staticmethod(self.display.failed)
            damaged = staticmethod(self.display.damaged)

        return Observer()

    def _keep_decision(self, blessing: str) -> None:
        """Copy DataGate's decision if it was cached, so that `imgpipe schema accept` finds it."""
        from imgpipe.components.data_gate import component

        if not self.config.decision_file.is_file():
            content = (Path(blessing) / component.GATE_FILE).read_bytes()
            atomic_write(self.config.decision_file, content)

    def _keep_schema(self, data_key: str) -> None:
        """Write the accepted schema again if DataGate was cached and the file was removed."""
        from imgpipe.components.data_gate import component, origin, schema

        if not self.config.schema_file.is_file():
            inferred = component.read_schema(self.display.outputs["SchemaGen"]["schema"])
            accepted = schema.accepted(inferred, self.vocabulary)
            schema.write(accepted, str(self.config.schema_file))
            origin.write(self.config.schema_file, data_key)

    # --- outcome ---------------------------------------------------------------------------
    def _timings(self) -> dict[str, Any]:
        return {
            "total_s": round(time.monotonic() - self.began, 3),
            "import_s": self.import_seconds,
            "components": dict(self.display.timings),
            "cached": list(self.display.cached),
        }

    def _write_timings(self) -> None:
        atomic_write(self.directory / "timings.json", json.dumps(self._timings(), indent=1) + "\n")

    def _write_artifacts(self) -> None:
        """Write which artifacts this run made or took from the cache."""
        text = json.dumps(self.display.outputs, indent=1) + "\n"
        atomic_write(self.directory / ARTIFACTS, text)

    def _outcome(self, error: BaseException | None) -> Outcome:
        """Write summary and report, also of a run that was refused or failed."""
        log = str(self.directory / LOG)
        fingerprint = self.inputs.fingerprint if self.inputs else ""
        settings = run_inputs.report_settings(self.config, self.vocabulary, fingerprint)
        facts: dict[str, Any] = {"settings": settings}
        page, unwritten = None, ""
        try:
            self._write_timings()
            self._write_artifacts()
            # Drawing the page needs the libraries whose loading was interrupted.
            if not (
                isinstance(error, failures.Interrupted) and self.display.failed_step == _LOADING
            ):
                facts = self._facts(error, settings)
                page = self._page(error, facts)
            self._keep_tuned((facts.get("training") or {}).get("tuned"))
        except (Exception, KeyboardInterrupt, signals.Stopped) as caught:
            traceback.print_exc()  # into the log
            unwritten = f"the report could not be written: {failures.cause(caught)}"
            if error is None:
                error = failures.known(caught, self.config.out)
        interrupted = isinstance(error, failures.Interrupted)
        state = verdict.state(
            facts, failures.cause(error), self.display.failed_step, log, interrupted
        )
        blessed = state.status == "blessed"
        content = summary.build(facts, self._timings(), page, state.status, state.verdict, log)
        if unwritten:
            content["warnings"].append(unwritten)
        self._write_summary(content)  # before MLflow, whose server may not answer
        if self.config.run.mlflow and not interrupted:
            self._log_to_mlflow(content)
        if self.inputs is not None and not interrupted:
            self._keep_metadata()
        if error is None and self.inputs is not None:
            repetition.remember(self.directory, self.config, self.inputs)
        return Outcome(exit_code(error, blessed), state.verdict, content, self.directory)

    def _write_summary(self, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        atomic_write(self.directory / SUMMARY, text)

    def _keep_metadata(self) -> None:
        """Copy the metadata database; a copy that fails costs only what `doctor` could restore."""
        try:
            metadata_file.keep_copy(self.config.out)
        except (OSError, sqlite3.Error):
            traceback.print_exc()  # into the log

    def _log_to_mlflow(self, content: dict[str, Any]) -> None:
        """Log the run, whose summary is written already; if that fails, it gets a warning."""
        with self.display.step("logging to MLflow"):
            logged = mlflow_log.log(self.config, self.directory, content)
        if isinstance(logged, str):
            content["warnings"].append(logged)
        else:
            content["mlflow"] = logged
        self._write_summary(content)

    def _facts(self, error: BaseException | None, settings: dict[str, object]) -> dict[str, Any]:
        """Facts that the Report component collected, or that are collected here after an error."""
        from imgpipe.components.report import component as report
        from imgpipe.components.report import facts

        file = self.directory / report.FACTS
        if error is None and file.exists():
            return dict(json.loads(file.read_text(encoding="utf-8")))
        return facts.collect(self._uris(error), settings)

    def _page(self, error: BaseException | None, facts: dict[str, Any]) -> str:
        """Path of the report, which is drawn here if the Report component did not run."""
        from imgpipe.components.report import component as report

        page = self.directory / report.PAGE
        if error is not None or not page.exists():
            failed, log = self.display.failed_step, str(self.directory / LOG)
            folders = [str(self.directory)]
            interrupted = isinstance(error, failures.Interrupted)
            cause = failures.cause(error)
            report.draw(facts, self._uris(error), folders, cause, failed, log, interrupted)
        return str(page)

    def _uris(self, error: BaseException | None) -> dict[str, str]:
        """URIs of the artifacts of finished components, by their names in the report."""
        from imgpipe.components.report.inputs import REPORTED

        uris = {
            name: self.display.outputs[row.component][row.output]
            for name, row in REPORTED.items()
            if row.output in self.display.outputs.get(row.component, {})
        }
        return uris | (self._refused_blessing() if error else {})

    def _keep_tuned(self, values: dict[str, Any] | None) -> None:
        """Write the configuration with the best values of the Tuner, for later runs."""
        if values and self.config.tune.trials:
            text = to_toml(tuned(self.config, values))
            atomic_write(self.directory / TUNED, text)

    def _refused_blessing(self) -> dict[str, str]:
        """Folder of DataGate's decision if it refused, since its output was not published."""
        decided = self.config.decision_file
        refused = self.display.failed_step == "DataGate" and decided.exists()
        return {"data_blessing": str(self.config.out)} if refused else {}


def _from(pipeline: Any, start: str | None) -> set[str]:
    """The nodes whose cached outputs are not used: `start` and all nodes that depend on it."""
    if start is None:
        return set()
    nodes = {node.id: node for node in pipeline.components}
    found, todo = {start}, [nodes[start]]
    while todo:
        for node in todo.pop().downstream_nodes:
            if node.id not in found:
                found.add(node.id)
                todo.append(node)
    return found


def exit_code(error: BaseException | None, blessed: bool) -> int:
    """Return the exit code of a run that ended with ``error``, or with a model where None."""
    if error is None:
        return 0 if blessed else 3
    return error.exit_code if isinstance(error, ImgpipeError) else 1
