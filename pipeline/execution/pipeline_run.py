"""Executes one run on this machine, from the scan of the source to the report.

TensorFlow and TFX are imported inside of functions, while a thread hashes the images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
import traceback
from concurrent.futures import Future
from pathlib import Path

from imgpipe.components.common.beam import worker_start
from imgpipe.components.example_gen.sources import Scan, Source
from imgpipe.components.run_record.run_files import LOG
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import quick_imports
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import signals, temporary_files
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.configuration.toml_text import to_toml
from imgpipe.pipeline.definition import plan as plans
from imgpipe.pipeline.definition.plan import Plan
from imgpipe.pipeline.execution import failures, repetition
from imgpipe.pipeline.execution.run_record import LOADING, RunRecord, exit_code
from imgpipe.pipeline.images import source
from imgpipe.pipeline.images.source import RunInputs
from imgpipe.pipeline.output import metadata_file, output_folder
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.output.past_run import ARTIFACT_ROOT
from imgpipe.pipeline.records.run_summary import RunSummary
from imgpipe.pipeline.results import Run


def execute(
    config: Config, start: str | None = None, to_stderr: bool = False, accept: bool = False
) -> Run:
    """Run the pipeline.

    Args:
        config: The validated configuration.
        start: Component from which on cached outputs are not used, as `component_names.full_name`
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


def _execute(config: Config, start: str | None, to_stderr: bool, accept: bool) -> Run:
    began = time.monotonic()
    config = config.with_absolute_paths()  # workers may have other current folders
    inputs = source.usable(config)
    settings_key = plans.settings_key(config)  # before a new version may be installed
    places = config.places
    out = places.out
    folder = OutputFolder(out)
    with folder.begin():
        listing: Scan | None = None
        ended = repetition.candidate(folder, settings_key)
        # With these arguments, some components are executed in any case.
        if ended is not None and start is None and not accept:
            listing = inputs.images.scan()
            plan = plans.make(config, listing, inputs.overrides)
            outcome_key = plans.outcome_key(plan, places.schema)
            summary = ended.repetition(outcome_key, places.versions)
            if summary is not None:
                return _repeated(summary, ended.directory, began)
        directory = folder.new_run(to_toml(config))
        with (
            temporary_files.temporary_folder_in(directory),
            consoles.quiet(directory / LOG, to_stderr) as console,
            consoles.Display(console) as display,
        ):
            record = RunRecord(places, directory, display, began)
            planned: Plan | None = None
            error: BaseException | None = None
            try:
                with progress.shown_by(display):
                    planned = _planned_while_loading(config, inputs, record, listing, accept)
                    _run_components(config, record, planned, start)
            except (KeyboardInterrupt, signals.Stopped):
                error = failures.Interrupted()
            except Exception as caught:
                traceback.print_exc()  # into the log
                error = failures.actionable(caught, out)
            # Without a plan, the classes are not known.
            shown = json.loads(planned.report) if planned else plans.report_settings(config)
            outcome = record.close(error, shown)
        # Where another version is served now, the verdict asks for a new run.
        outdated = "other_version" in outcome.summary["push"]["refused_by"]
        if planned is not None and outcome.exit_code in (0, 3) and not outdated:
            outcome_key = plans.outcome_key(planned, places.schema)
            repetition.remember(directory, settings_key, outcome_key)
        if config.run.keep:
            with contextlib.suppress(OSError):  # the next run tries again
                removable, _ = folder.removable(config.run.keep)
                outcome = dataclasses.replace(outcome, freed=output_folder.remove(removable))
        return outcome


def _repeated(summary: RunSummary, directory: Path, began: float) -> Run:
    """Return the outcome of a run that repeats the one of this folder."""
    total = round(time.monotonic() - began, 3)
    summary["timings"] = {"total_s": total, "import_s": 0.0, "components": {}}
    code = exit_code(None, summary["push"]["status"] != "refused")
    return Run(code, summary["verdict"], summary, directory, repeated=True)


def _planned_while_loading(
    config: Config, inputs: RunInputs, record: RunRecord, listing: Scan | None, accept: bool
) -> Plan:
    """Load the libraries and, meanwhile, list the images; return the plan.

    Args:
        config: The configuration, with absolute paths.
        inputs: What the run reads.
        record: Record of the run.
        listing: The images, if they were listed already.
        accept: Whether anomalies and drift of the data are accepted.
    """
    listed: Future[Scan] = Future()
    if listing is not None:
        listed.set_result(listing)
    else:
        # A daemon, so that an interrupted run does not wait until all images are hashed.
        threading.Thread(
            target=_list, args=(inputs.images, listed), name="scan", daemon=True
        ).start()
    loading = time.monotonic()
    with record.step(LOADING), quick_imports():
        from imgpipe.models import augmentation
        from imgpipe.models.network import classifier
        from imgpipe.pipeline.runners import local  # noqa: F401  # with the graph and TFX
    record.import_seconds = round(time.monotonic() - loading, 3)
    with record.step("finding the images"):
        progress.advance(len(listed.result().items))
    with record.step("finding weights"):  # before time is spent on the images
        settings = config.settings
        settings.backbone_spec().fetch(settings.size)
        classifier.require_layers(settings)
        augmentation.require_builder(settings.views, settings.size)
    return plans.make(config, listed.result(), inputs.overrides, accept)


def _list(images: Source, listed: Future[Scan]) -> None:
    """List and hash the images, while the display shows the loading of libraries."""
    try:
        with progress.silent():
            listed.set_result(images.scan())
    except BaseException as error:  # Python would only print it; who asks for the result raises it
        listed.set_exception(error)


def _run_components(config: Config, record: RunRecord, plan: Plan, start: str | None) -> None:
    """Run the components.

    Args:
        config: The configuration, with absolute paths.
        record: Record of the run, the observer of the runner.
        plan: The plan of the run.
        start: Component from which on cached outputs are not used.
    """
    from imgpipe.components.data_gate import schema
    from imgpipe.pipeline.definition import graph
    from imgpipe.pipeline.runners import local

    places = config.places
    # What an earlier run decided must not be taken for the decision of this one.
    places.decision.unlink(missing_ok=True)
    storage = graph.Storage(
        root=str(places.out / ARTIFACT_ROOT),
        metadata=local.metadata_config(places.out / metadata_file.NAME),
        run_directory=str(record.directory),
    )
    pipeline = graph.create_pipeline(config, plan, storage)
    fresh = graph.from_component(pipeline, start)
    if not places.schema.is_file():  # which DataGate writes
        fresh.add("DataGate")
    if plan.accepted_schema:  # before time is spent on the images
        schema.parse(plan.accepted_schema, str(places.schema))
    worker_start.prepare_local(pipeline.beam_pipeline_args, record.directory)
    local.run(pipeline, record, fresh)
