"""Executes one run on this machine, from the scan of the source to the report.

TensorFlow and TFX are imported inside of functions, while a thread hashes the images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import threading
import time
import traceback
from dataclasses import dataclass

from imgpipe.components.common.beam import worker_start
from imgpipe.components.example_gen.sources import Scan
from imgpipe.components.run_record import identity
from imgpipe.components.run_record.run_files import CONFIG, LOG
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import quick_imports
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import signals
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.configuration.toml_text import to_toml
from imgpipe.pipeline.definition import plan as plans
from imgpipe.pipeline.definition.plan import Plan
from imgpipe.pipeline.execution import failures, repetition
from imgpipe.pipeline.execution.run_record import LOADING, RunRecord, exit_code
from imgpipe.pipeline.images import source
from imgpipe.pipeline.output import metadata_file, removable_files, run_folders, temporary_files
from imgpipe.pipeline.output.run_folders import ARTIFACT_ROOT, RUNS
from imgpipe.pipeline.results import Run


def execute(
    config: Config, start: str | None = None, to_stderr: bool = False, accept: bool = False
) -> Run:
    """Run the pipeline.

    Args:
        config: The validated configuration.
        start: Component from which on cached outputs are not used, as `component_names.find`
            returns it. None to use all of them.
        to_stderr: Whether progress is printed to standard error instead of standard output.
        accept: Whether anomalies, drift and skew of the data are accepted.

    Returns:
        The outcome, also of a run that failed in a component.

    Raises:
        ImgpipeError: The run could not start: wrong source, locked output folder, no permission.
    """
    try:
        return _execute(config, start, to_stderr, accept)
    except Exception as error:
        known = failures.actionable(error, config.places.out)
        if known is error:
            raise
        raise known from error


@dataclass(frozen=True)
class _Planned:
    """A plan, and the number of images. Their listing is not kept in memory."""

    plan: Plan
    images: int


def _execute(config: Config, start: str | None, to_stderr: bool, accept: bool) -> Run:
    began = time.monotonic()
    config = config.with_absolute_paths()  # workers may have other current folders
    source.require_usable(config)
    settings_key = plans.settings_key(config)  # before a new version may be installed
    places = config.places
    out = places.out
    with run_folders.created_and_locked(out):
        note = metadata_file.make_usable(out)
        if note:
            print(f"note: {note}", file=sys.stderr)
        temporary_files.sweep(out)
        planned: _Planned | None = None
        if start is None and not accept:  # with these, some components are executed in any case
            planned, repeated = _repeated(config, settings_key, began)
            if repeated is not None:
                return repeated
        settings = to_toml(config)
        directory = run_folders.create(out / RUNS)
        identity.note_start(directory, sys.argv)
        atomic_write(directory / CONFIG, settings)
        with (
            temporary_files.temporary_folder_in(directory),
            consoles.quiet(directory / LOG, to_stderr) as console,
            consoles.Display(console) as display,
        ):
            record = RunRecord(places, directory, display, began)
            error: BaseException | None = None
            try:
                with progress.shown_by(display):
                    planned = _loaded(config, record, planned, accept)
                    _run_components(config, record, planned.plan, start)
            except (KeyboardInterrupt, signals.Stopped):
                error = failures.Interrupted()
            except Exception as caught:
                traceback.print_exc()  # into the log
                error = failures.actionable(caught, out)
            # Without a plan, the classes are not known.
            shown = json.loads(planned.plan.report) if planned else plans.report_settings(config)
            outcome = record.close(error, shown)
        # Where another version is served now, the verdict asks for a new run.
        outdated = "other_version" in outcome.summary["push"]["refused_by"]
        if planned is not None and outcome.exit_code in (0, 3) and not outdated:
            outcome_key = plans.outcome_key(planned.plan, places.schema)
            repetition.remember(directory, settings_key, outcome_key)
        if config.run.keep:
            with contextlib.suppress(OSError):  # the next run tries again
                removable, _ = removable_files.find(out, config.run.keep)
                outcome = dataclasses.replace(outcome, freed=removable_files.remove(removable))
        return outcome


def _repeated(
    config: Config, settings_key: str, began: float
) -> tuple[_Planned | None, Run | None]:
    """Return the plan, if the images had to be listed for it, and the run that this one repeats."""
    places = config.places
    directory = repetition.candidate(places.out, settings_key)
    if directory is None:
        return None, None
    planned = _planned(config, source.scan(config), accept=False)
    outcome_key = plans.outcome_key(planned.plan, places.schema)
    summary = repetition.summary(directory, places.versions, outcome_key)
    if summary is None:
        return planned, None
    total = round(time.monotonic() - began, 3)
    summary["timings"] = {"total_s": total, "import_s": 0.0, "components": {}}
    code = exit_code(None, summary["push"]["status"] != "refused")
    return planned, Run(code, summary["verdict"], summary, directory, repeated=True)


def _planned(config: Config, listing: Scan, accept: bool) -> _Planned:
    plan = plans.make(config, listing, accept)
    return _Planned(plan, len(listing.items))


def _loaded(config: Config, record: RunRecord, planned: _Planned | None, accept: bool) -> _Planned:
    """Load the libraries and, meanwhile, list the images; return the plan.

    Args:
        config: The configuration, with absolute paths.
        record: Record of the run.
        planned: The plan, if the images were listed already.
        accept: Whether anomalies, drift and skew of the data are accepted.
    """
    listings: list[Scan] = []
    errors: list[BaseException] = []

    def list_images() -> None:
        try:
            with progress.silent():  # the display shows the loading of libraries meanwhile
                listings.append(source.scan(config))
        except BaseException as caught:  # Python would only print it; the main thread raises it
            errors.append(caught)

    # A daemon, so that an interrupted run does not wait until all images are hashed.
    hashing = threading.Thread(target=list_images, name="scan", daemon=True)
    if planned is None:
        hashing.start()
    loading = time.monotonic()
    with record.step(LOADING), quick_imports():
        from imgpipe.models import augmentation
        from imgpipe.models.network import classifier
        from imgpipe.pipeline.runners import local  # noqa: F401  # with the graph and TFX
    record.import_seconds = round(time.monotonic() - loading, 3)
    with record.step("finding the images"):
        if planned is None:
            hashing.join()
        for error in errors:
            raise error
        progress.advance(len(listings[0].items) if planned is None else planned.images)
    with record.step("finding weights"):  # before time is spent on the images
        settings = config.settings
        settings.backbone_spec().fetch(settings.size)
        classifier.require_layers(settings)
        augmentation.require_builder(settings.views, settings.size)
    if planned is None:
        planned = _planned(config, listings[0], accept)
    return planned


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
