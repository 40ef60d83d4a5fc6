"""Executes one run on this machine, from the scan of the source to the report.

TensorFlow and TFX are imported inside of functions, while a thread hashes the images.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import Future

from imgpipe.components.common.beam import worker_start
from imgpipe.components.example_gen.sources import Scan, Source
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import quick_imports
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.definition import plan as plans
from imgpipe.pipeline.execution import failures, repetition, run_record
from imgpipe.pipeline.execution.run_record import LOADING, RunRecord
from imgpipe.pipeline.images import source
from imgpipe.pipeline.images.source import RunInputs
from imgpipe.pipeline.output import metadata_file
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.output.past_run import ARTIFACT_ROOT
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
    folder = OutputFolder(config.places.out)
    with folder.begin():
        ended = repetition.candidate(folder, settings_key)
        listed = _listed(inputs.images)
        # With these arguments, some components are executed in any case.
        if ended is not None and start is None and not accept:
            plan = plans.make(config, listed.result(), inputs.overrides)
            outcome_key = plans.outcome_key(plan, config.places.schema)
            repeated = repetition.outcome(ended, outcome_key, config.places.versions, began)
            if repeated is not None:
                return repeated
        with run_record.begun(folder, config, to_stderr, began) as run:
            run.plan = _planned_while_loading(config, inputs, run, listed, accept)
            _run_components(config, run.plan, run, start)
        if run.plan is not None:
            outcome_key = plans.outcome_key(run.plan, config.places.schema)
            repetition.remember(run.outcome, settings_key, outcome_key)
        return dataclasses.replace(run.outcome, freed=folder.clean(config.run.keep))


def _listed(images: Source) -> Future[Scan]:
    """List and hash the images in a thread, while the display shows the loading of libraries."""
    listed: Future[Scan] = Future()

    def work() -> None:
        try:
            with progress.silent():
                listed.set_result(images.scan())
        except BaseException as error:  # Python would only print it; `result` raises it
            listed.set_exception(error)

    # A daemon, so that an interrupted run does not wait until all images are hashed.
    threading.Thread(target=work, name="scan", daemon=True).start()
    return listed


def _planned_while_loading(
    config: Config, inputs: RunInputs, run: RunRecord, listed: Future[Scan], accept: bool
) -> plans.Plan:
    """Load the libraries while the images are listed; return the plan.

    Args:
        config: The configuration, with absolute paths.
        inputs: What the run reads.
        run: Record of the run.
        listed: The images, as soon as they are listed.
        accept: Whether anomalies and drift of the data are accepted.
    """
    loading = time.monotonic()
    with run.step(LOADING), quick_imports():
        from imgpipe.models import augmentation
        from imgpipe.models.network import classifier
        from imgpipe.pipeline.runners import local  # noqa: F401  # with the graph and TFX
    run.import_seconds = round(time.monotonic() - loading, 3)
    with run.step("finding the images"):
        progress.advance(len(listed.result().items))
    with run.step("finding weights"):  # before time is spent on the images
        settings = config.settings
        settings.backbone_spec().fetch(settings.size)
        classifier.require_layers(settings)
        augmentation.require_builder(settings.views, settings.size)
    return plans.make(config, listed.result(), inputs.overrides, accept)


def _run_components(config: Config, plan: plans.Plan, run: RunRecord, start: str | None) -> None:
    """Run the components.

    Args:
        config: The configuration, with absolute paths.
        plan: The plan of the run.
        run: Record of the run, the observer of the runner.
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
        run_directory=str(run.directory),
    )
    pipeline = graph.create_pipeline(config, plan, storage)
    fresh = graph.from_component(pipeline, start)
    if not places.schema.is_file():  # which DataGate writes
        fresh.add("DataGate")
    if plan.accepted_schema:  # before time is spent on the images
        schema.parse(plan.accepted_schema, str(places.schema))
    worker_start.prepare_local(pipeline.beam_pipeline_args, run.directory)
    local.run(pipeline, run, fresh)
