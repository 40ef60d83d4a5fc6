"""Executes one run on this machine, from the scan of the source to the report.

The run leaves timings, artifacts, report and result in its folder, also after an error. TensorFlow
and TFX are imported inside of functions, while a thread hashes the images.

A run that has ended with a model leaves `plan.outcome_key`, too. If the next run has the same
settings and key, and everything that the earlier one made is still there, then it would take every
component from the cache and end in the same way, so that its outcome is known without TensorFlow
and TFX.
"""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.common.beam import worker_start
from imgpipe.components.common.storage import manifest
from imgpipe.components.example_gen.sources import Images
from imgpipe.components.model_pusher.versions import Push
from imgpipe.components.report.commands import next_commands
from imgpipe.components.run_record import result as results
from imgpipe.components.run_record import run_folder, verdict
from imgpipe.components.run_record.result import Result
from imgpipe.components.run_record.run_folder import UNTIMED, Timings
from imgpipe.models.features.bank import BankFacts
from imgpipe.models.files import json_object
from imgpipe.models.files.regular_files import sha256
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import quick_imports
from imgpipe.models.settings.given import Facts, Given
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import signals
from imgpipe.pipeline.configuration.config import absolute
from imgpipe.pipeline.configuration.given_settings import to_toml
from imgpipe.pipeline.definition import plan as plans
from imgpipe.pipeline.definition import source
from imgpipe.pipeline.execution import failures
from imgpipe.pipeline.output.output_folder import DATABASE, OutputFolder
from imgpipe.pipeline.output.run import Run

if TYPE_CHECKING:
    from imgpipe.pipeline.execution.local import NodeResult

#: Step of the display in which the libraries are imported.
_LOADING = "loading TensorFlow, TFX"
#: File with what decides whether a run can be repeated, in its folder.
REPEAT = "repeat.json"


def execute(
    config: Settings, start: str | None = None, to_stderr: bool = False, accept: bool = False
) -> Run:
    """Run the pipeline.

    Args:
        config: The validated configuration.
        start: Component from which on cached outputs are not used, as `run_folder.full_name`
            returns it. None to use all of them.
        to_stderr: Whether progress is printed to standard error instead of standard output.
        accept: Whether anomalies and drift of the data are accepted.

    Returns:
        The outcome, also of a run that failed in a component.

    Raises:
        ImgpipeError: The run could not start: wrong source, locked output folder, no permission.
    """
    try:
        return _execute(config, start, to_stderr, accept)
    except Exception as error:
        told = failures.actionable(error, config.places.out)
        if told is error:
            raise
        raise told from error


def _execute(config: Settings, start: str | None, to_stderr: bool, accept: bool) -> Run:
    began = time.monotonic()
    config = absolute(config)  # workers may have other current folders
    places = config.places
    with consoles.quiet():  # without the messages of TensorFlow, which lists TFRecord files
        images = source.usable(config)
    with OutputFolder(places.out).begin() as folder:
        config, notes = plans.with_kept_threshold(config)
        settings = to_toml(config)
        ended = repeatable(folder.started, settings)
        hashed = source.hashed_in_thread(images)
        # With these arguments, some components are executed in any case.
        if ended is not None and start is None and not accept:
            with consoles.quiet():  # an own network is built
                plan = plans.make(config, hashed.result())
            key = plans.outcome_key(plan, places.schema)
            repeated = outcome_again(ended, key, began, notes)
            if repeated is not None:
                return repeated
        directory = folder.new_run(settings)
        with consoles.counted(to_stderr, directory) as display:
            run = WorkingRun(config, directory, display, began, notes)
            outcome = run.run(hashed, start, accept)
        if run.plan is not None:
            remember(outcome, plans.outcome_key(run.plan, places.schema))
        return dataclasses.replace(outcome, freed=folder.clean(config.run.keep))


class WorkingRun:
    """The steps of a run, and what they find out, which is written to the folder of the run.

    It is the observer of the runner.

    Attributes:
        plan: The plan of the run, None until the run has made it.
    """

    def __init__(
        self,
        config: Settings,
        directory: Path,
        display: consoles.Display,
        began: float,
        notes: Sequence[Finding] = (),
    ) -> None:
        self.plan: plans.Plan | None = None
        self._config = config
        self._directory = directory
        self._display = display
        self._began = began
        self._notes = notes  # findings about its settings
        self._import_seconds = 0.0
        self._outputs: dict[str, dict[str, str]] = {}  # URIs by component and name of the output
        self._seconds: dict[str, float] = {}
        self._cached: list[str] = []

    # --- steps ---------------------------------------------------------------------------------
    def run(self, hashed: Future[Images], start: str | None, accept: bool) -> Run:
        """Plan the run and run the components; return the outcome, also after an error."""
        error: BaseException | None = None
        try:
            self._load(hashed)
            self.plan = plans.make(self._config, hashed.result(), accept)
            self._run_components(self.plan, start)
        except (KeyboardInterrupt, signals.Stopped):
            error = failures.Interrupted()
        except Exception as caught:
            traceback.print_exc()  # into the log
            error = failures.actionable(caught, self._config.places.out)
        with progress.silent():
            return self._close(error)

    def _load(self, hashed: Future[Images]) -> None:
        """Load the libraries while the images are hashed, and find the weights."""
        loading = time.monotonic()
        with self._display.step(_LOADING), quick_imports():
            from imgpipe.models import augmentation
            from imgpipe.models.network import classifier
            from imgpipe.pipeline.execution import local  # noqa: F401  # with the graph and TFX
        self._import_seconds = round(time.monotonic() - loading, 3)
        with self._display.step("finding the images"):
            progress.advance(len(hashed.result().items))
        with self._display.step("finding weights"):  # before time is spent on the images
            settings = self._config
            settings.backbone_spec().fetch(settings.size)
            classifier.require_layers(settings)
            augmentation.require_builder(settings.views, settings.size)

    def _run_components(self, plan: plans.Plan, start: str | None) -> None:
        """Run the components; from `start` on, cached outputs are not used."""
        from imgpipe.components.data_gate import schema
        from imgpipe.pipeline.definition import graph
        from imgpipe.pipeline.execution import local

        places = self._config.places
        # What an earlier run decided must not be taken for the decision of this one.
        places.decision.unlink(missing_ok=True)
        storage = graph.Storage(
            root=str(self._directory / run_folder.ARTIFACT_ROOT),
            metadata=local.metadata_config(places.out / DATABASE),
            run_directory=str(self._directory),
        )
        pipeline = graph.create_pipeline(self._config, plan.texts, storage)
        fresh = graph.from_component(pipeline, start)
        if not places.schema.is_file():  # which DataGate writes
            fresh.add("DataGate")
        if plan.facts.accepted_schema:  # before time is spent on the images
            schema.parse(plan.facts.accepted_schema, str(places.schema))
        worker_start.prepare_local(pipeline.beam_pipeline_args, self._directory)
        local.run(pipeline, self, fresh)

    # --- events --------------------------------------------------------------------------------
    def started(self, name: str) -> None:
        """See `local.Observer`."""
        signals.check()  # the node before may have swallowed the exception of a signal
        if name == "Report":  # which reads the timings from this file
            json_object.write(self._directory / run_folder.TIMINGS, self._timings())
        self._display.started(name)

    def finished(self, result: NodeResult) -> None:
        """See `local.Observer`."""
        self._seconds[result.name] = round(result.seconds, 3)
        self._outputs[result.name] = result.outputs
        if result.cached:
            self._cached.append(result.name)
        out = str(self._config.places.out)
        places = {
            name: {key: results.inside(uri, out) for key, uri in outputs.items()}
            for name, outputs in self._outputs.items()
        }
        # Also for a run that will be killed.
        json_object.write(self._directory / run_folder.ARTIFACTS, places)
        self._display.ended("cached" if result.cached else "done")

    def failed(self, name: str, seconds: float) -> None:
        """See `local.Observer`."""
        self._seconds[name] = round(seconds, 3)
        self._display.ended("failed")

    # --- the end -------------------------------------------------------------------------------
    def _close(self, error: BaseException | None) -> Run:
        """Write report and result of the run that this error ended, if any; return the outcome."""
        # Without a plan, the classes are not known.
        given = Given(self._config, self.plan.facts if self.plan else Facts())
        run = Run.read(self._directory)
        # Whether the component Report has drawn the page, and its result can be read.
        is_drawn = error is None and run.report is not None and bool(run.verdict)
        result = (
            run.result
            if is_drawn
            else self._ended(results.new(**results.of_settings(given)), error)
        )
        unwritten = []
        try:
            json_object.write(self._directory / run_folder.TIMINGS, self._timings())
            # Drawing the page needs the libraries whose loading was interrupted.
            is_loaded = not isinstance(error, failures.Interrupted) or (
                self._display.failed_step != _LOADING
            )
            if is_loaded and not is_drawn:
                from imgpipe.components.report import report
                from imgpipe.components.run_record.collect import collect

                uris = self._uris()
                collected, answers = collect(uris, given)
                result = self._ended(collected, error)
                result = report.draw(result, answers, uris, [str(self._directory)])
        except (Exception, KeyboardInterrupt, signals.Stopped) as caught:
            traceback.print_exc()  # into the log
            sentence = f"the report could not be written: {failures.cause(caught)}"
            unwritten = [make_finding("no_report", sentence)]
            error = error or failures.actionable(caught, self._config.places.out)
            result = self._ended(result, error)
        result = results.placed(result, str(self._directory))
        result["findings"] += [*self._notes, *unwritten]
        result["timings"] = self._timings()
        result["cached"] = self._cached
        if "FeatureBank" in self._cached:
            result["bank"] = _read_again(result["bank"])
        result["next"] = next_commands(result) if result["report"] else []
        content = results.read(result)
        json_object.write(self._directory / run_folder.RESULT, content)
        code = _exit_code(content["push"]) if error is None else failures.exit_code(error)
        return Run(self._directory, content, exit_code=code)

    def _uris(self) -> dict[str, str]:
        """Return the artifacts that the report reads, by the names of `collect.REPORTED`."""
        from imgpipe.components.run_record.collect import REPORTED

        uris = {
            name: self._outputs[row.component][row.output]
            for name, row in REPORTED.items()
            if row.output in self._outputs.get(row.component, {})
        }
        if self._display.failed_step == "DataGate" and self._config.places.decision.exists():
            # The copy of its decision, since the output of a component that failed is not kept.
            uris["data_blessing"] = str(self._config.places.out)
        return uris

    def _timings(self) -> Timings:
        return {
            "total_s": round(time.monotonic() - self._began, 3),
            "import_s": self._import_seconds,
            "components": self._seconds,
        }

    def _ended(self, result: Result, error: BaseException | None) -> Result:
        """Return the result with the verdict of the run that this error ended, if there is one."""
        interrupted = isinstance(error, failures.Interrupted)
        return verdict.ended(result, failures.cause(error), self._display.failed_step, interrupted)


# --- a run that would repeat the last one ------------------------------------------------------
def remember(run: Run, outcome_key: str) -> None:
    """Write the key of a run that ended with a model into its folder."""
    # Where another version is served now, the verdict asks for a new run.
    if run.exit_code in (0, 3) and "other_version" not in run.result["push"]["refused_by"]:
        keys = {"key": outcome_key, "files": _digests(run.folder)}
        json_object.write(run.folder / REPEAT, keys)


def repeatable(started: Sequence[Path], settings: str) -> Run | None:
    """Return the newest run of those that have started, if it had these settings and a model.

    After any other run, DataGate's last decision and the newest run are not those of a run that is
    repeated. `settings` is the configuration as TOML.
    """
    if not started:
        return None
    newest = started[-1]
    # The digests are compared too, because an edited result would be reported as this outcome.
    if json_object.read_or_empty(newest / REPEAT).get("files") != _digests(newest):
        return None
    written = settings.encode("utf-8", "backslashreplace")  # as `atomic_write` does
    try:
        settings_then = (newest / run_folder.CONFIG).read_bytes()
    except OSError:  # a run is begun
        return None
    return Run.read(newest) if settings_then == written else None


def outcome_again(
    run: Run, outcome_key: str, began: float, notes: Sequence[Finding] = ()
) -> Run | None:
    """Return the outcome of a run with this key that repeats `run`.

    `began` is when this run began, as a time of `time.monotonic`, and `notes` are the findings
    about its settings. None if the images differ, or something that the earlier run made is no
    longer there or no longer served.
    """
    result = run.result
    artifacts = run.artifacts or {}
    folders = [run.out / path for outputs in artifacts.values() for path in outputs.values()]
    served = manifest.served(run.versions_folder)
    if (
        outcome_key != json_object.read_or_empty(run.folder / REPEAT).get("key")
        or run.version not in (None, served and served.number)
        or not folders
        or not all(map(Path.is_dir, folders))
        or run.report is None
    ):
        return None
    push = result["push"]
    others = [each for each in result["findings"] if each["reason"] != plans.KEPT_THRESHOLD]
    content: Result = {
        **result,
        "findings": [*others, *notes],
        "push": {**push, "status": "unchanged" if push["status"] == "pushed" else push["status"]},
        "cached": sorted(artifacts),
        "bank": _read_again(result["bank"]),
        "timings": {**UNTIMED, "total_s": round(time.monotonic() - began, 3)},
    }
    return Run(run.folder, content, exit_code=_exit_code(push), repeated=True)


def _read_again(bank: BankFacts | None) -> BankFacts | None:
    """Return what describes a bank from which a run reads what an earlier one has computed."""
    if bank is None:
        return None
    return {**bank, "forward_passes": 0, "reused": bank["reused"] + bank["forward_passes"]}


def _exit_code(push: Push) -> int:
    """Return the exit code of a run that ended without an error."""
    return 3 if push["status"] == "refused" else 0


def _digests(directory: Path) -> dict[str, str]:
    """Return digests of the files from which a repetition takes its outcome."""
    files = [directory / name for name in (run_folder.RESULT, run_folder.ARTIFACTS)]
    return {file.name: sha256(file) for file in files if file.is_file()}
