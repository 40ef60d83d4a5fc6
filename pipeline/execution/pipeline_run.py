"""Executes one run on this machine, from the scan of the source to the report.

TensorFlow and TFX are imported inside of functions, while a thread hashes the images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgpipe.components.common.beam import worker_start
from imgpipe.components.example_gen.sources import Scan
from imgpipe.components.report import identity
from imgpipe.models import progress
from imgpipe.models.errors import ResourceError
from imgpipe.models.feature_kinds import AUTO, AVERAGE, FLATTEN, LEVELS
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.process import quick_imports
from imgpipe.models.settings import ModelSettings
from imgpipe.pipeline import plan as plans
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import signals
from imgpipe.pipeline.configuration import beam as beam_options
from imgpipe.pipeline.configuration.config import Config, to_toml
from imgpipe.pipeline.execution import failures, repetition
from imgpipe.pipeline.execution.run_record import LOADING, LOG, RunRecord, exit_code
from imgpipe.pipeline.output import metadata_file, removable_files, run_folders, temporary_files
from imgpipe.pipeline.output.run_folders import CONFIG, RUNS
from imgpipe.pipeline.results import Run
from imgpipe.pipeline.source import check_files, require_classes, require_outside, scan


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
        if (known := failures.known(error, config.out)) is error:
            raise
        raise known from error


def _execute(config: Config, start: str | None, to_stderr: bool, accept: bool) -> Run:
    began = time.monotonic()
    config = config.with_absolute_paths()  # workers may have other current folders
    check_files(config)
    require_outside(config)
    require_classes(config)
    out = config.out
    with _locked(out):
        if told := metadata_file.make_usable(out):
            print(f"note: {told}", file=sys.stderr)
        temporary_files.sweep(out)
        # With --from and --accept, some components are executed in any case.
        new = start is not None or accept
        listed, repeated = ([], None) if new else _repeated(config, began)
        if repeated is not None:
            return repeated
        directory = run_folders.create(out / RUNS)
        atomic_write(directory / CONFIG, to_toml(config))
        identity.note_start(directory, sys.argv)
        with (
            temporary_files.below(directory),
            consoles.quiet(directory / LOG, to_stderr) as console,
            consoles.Display(console) as display,
        ):
            record = RunRecord(config, directory, display, began)
            error: BaseException | None = None
            try:
                with progress.shown_by(display):
                    _pipeline(config, record, listed, start, accept)
            except (KeyboardInterrupt, signals.Stopped):
                error = failures.Interrupted()
            except Exception as caught:
                traceback.print_exc()  # into the log
                error = failures.known(caught, out)
            outcome = record.close(error)
        if config.run.keep:
            with contextlib.suppress(OSError):  # the next run tries again
                found, _ = removable_files.find(out, config.run.keep)
                outcome = dataclasses.replace(outcome, freed=removable_files.remove(found))
        return outcome


def _repeated(config: Config, began: float) -> tuple[list[Scan], Run | None]:
    """Return the images, if they had to be listed, and the run that this one would repeat."""
    directory = repetition.candidate(config)
    if directory is None:
        return [], None
    listed = [scan(config)]
    found = repetition.summary(directory, config, plans.make(config, listed[0]))
    if found is None:
        return listed, None
    total = round(time.monotonic() - began, 3)
    found["timings"] = {"total_s": total, "import_s": 0.0, "components": {}}
    code = exit_code(None, found["push"]["status"] != "refused")
    return listed, Run(code, found["verdict"], found, directory, repeated=True)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Create and lock the output folder for one run."""
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            advice = "Wait for it, or use another folder: --out OUT."
            busy = f"another run is working in {out}. {advice}"
            stack.enter_context(run_folders.locked(out, busy))
        except OSError as error:
            why = error.strerror if out.is_dir() or not out.exists() else "it is a file"
            raise ResourceError(
                f"cannot write to {out}: {why}. Expected a folder that can be written; name "
                "another one with --out OUT."
            ) from None
        yield


def _pipeline(
    config: Config, record: RunRecord, listed: list[Scan], start: str | None, accept: bool
) -> None:
    """Run the components.

    Args:
        config: The configuration, with absolute paths.
        record: Record of the run, the observer of the runner.
        listed: The images, if they were listed already; emptied, so that the listing is freed.
        start: Component from which on cached outputs are not used.
        accept: Whether anomalies, drift and skew of the data are accepted.
    """
    errors: list[BaseException] = []

    def list_images() -> None:
        try:
            with progress.silent():  # the display shows the loading of libraries meanwhile
                listed[:] = listed or [scan(config)]
        except BaseException as caught:  # Python would only print it; the main thread raises it
            errors.append(caught)

    # A daemon, so that an interrupted run does not wait until all images are hashed.
    hashing = threading.Thread(target=list_images, name="scan", daemon=True)
    hashing.start()
    loading = time.monotonic()
    with record.step(LOADING), quick_imports():
        from imgpipe.components.data_gate import schema
        from imgpipe.pipeline import graph
        from imgpipe.pipeline.runners import local
    record.import_seconds = round(time.monotonic() - loading, 3)
    with record.step("finding the images"):
        hashing.join()
        for error in errors:
            raise error
        progress.advance(len(listed[0].items))
    with record.step("finding weights"):  # before time is spent on the images
        settings = config.settings
        settings.backbone_spec().fetch(settings.size)
        check_layers(settings)
    record.vocabulary = tuple(listed[0].vocabulary)
    # `pop` takes the only reference, so that the listing is not in memory while components run.
    plan = record.plan = plans.make(config, listed.pop(), accept)
    if plan.accepted_schema:  # before time is spent on the images
        schema.parse(plan.accepted_schema, str(config.schema_file))
    # What an earlier run decided must not be taken for the decision of this one.
    config.decision_file.unlink(missing_ok=True)
    storage = graph.Storage(
        root=str(config.out / "artifacts"),
        metadata=local.metadata_config(config.out / metadata_file.NAME),
        run_directory=str(record.directory),
    )
    worker_start.prepare_local(beam_options.arguments(config.beam), record.directory)
    pipeline = graph.create_pipeline(config, plan, storage)
    fresh = _from(pipeline, start)
    if not config.schema_file.is_file():  # which DataGate writes
        fresh.add("DataGate")
    local.run(pipeline, record, fresh)


def check_layers(settings: ModelSettings) -> None:
    """Refuse names of layers that the network does not have; see `layer_graph.layer_at`."""
    looked_at = settings.frozen and (settings.fine_tune.mode == "on" or settings.searches)
    tuned = settings.fine_tune.cut if looked_at else ""
    usual = (AUTO, AVERAGE, FLATTEN, LEVELS)
    named = settings.features not in usual  # layers, or a class token, which not all have
    if settings.cut or tuned or named:
        from imgpipe.models.backbones import layer_graph
        from imgpipe.models.network.classifier import backbone_of

        backbone_of(settings)  # fails for a layer that does not exist
        if tuned:
            trained = settings.of_search if settings.searches else settings
            layer_graph.layer_at(backbone_of(trained), tuned)


def _from(pipeline: Any, start: str | None) -> set[str]:
    """Return the nodes whose cached outputs are not used: `start` and all that depend on it."""
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
