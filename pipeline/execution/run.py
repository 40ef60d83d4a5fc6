"""Executes one run on this machine, from the scan of the source to the report.

TensorFlow and TFX are imported inside of functions, while a thread hashes the images.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.beam import local_workers
from imgpipe.components.example_gen.sources import Scan
from imgpipe.components.report import identity
from imgpipe.models import progress
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.quick_imports import quick_imports
from imgpipe.pipeline import plan as plans
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.command_line import signals
from imgpipe.pipeline.configuration import beam_options
from imgpipe.pipeline.configuration.config import Config, to_toml
from imgpipe.pipeline.execution import failures, preconditions, repetition
from imgpipe.pipeline.execution.run_record import LOADING, LOG, Outcome, RunRecord, exit_code
from imgpipe.pipeline.output import metadata_file, run_folders, run_lock, temporary_files
from imgpipe.pipeline.output.run_folders import CONFIG, RUNS
from imgpipe.pipeline.source import scan

if TYPE_CHECKING:
    from imgpipe.pipeline.runners.local import NodeResult


def execute(
    config: Config, start: str | None = None, to_stderr: bool = False, accept: bool = False
) -> Outcome:
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


def _execute(config: Config, start: str | None, to_stderr: bool, accept: bool) -> Outcome:
    began = time.monotonic()
    config = config.with_absolute_paths()  # workers may have other current folders
    preconditions.check(config)
    out = config.out
    with _locked(out):
        if told := metadata_file.make_usable(out):
            print(f"note: {told}", file=sys.stderr)
        temporary_files.sweep(out)
        # With --from and --accept, some components are executed in any case.
        new = start is not None or accept
        listed, repeated = (None, None) if new else _repeated(config, began)
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
            return _Run(config, directory, display, began, listed, accept).go(start)


def _repeated(config: Config, began: float) -> tuple[Scan | None, Outcome | None]:
    """Outcome of an earlier run that this one would repeat, and the images if they were listed."""
    directory = repetition.candidate(config, config.out / RUNS)
    if directory is None:
        return None, None
    listed = scan(config)
    found = repetition.summary(directory, config, plans.make(config, listed))
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
        display: consoles.Display,
        began: float,
        listed: Scan | None = None,
        accept: bool = False,
    ) -> None:
        self.config, self.directory = config, directory
        self.listed, self.accept = listed, accept
        self.display = display
        self.record = RunRecord(config, directory, display, began)

    def go(self, start: str | None) -> Outcome:
        """Run the pipeline and report its outcome, also after an error."""
        error: BaseException | None = None
        self.record.write_artifacts()  # none so far, which `clean` must know
        try:
            with progress.shown_by(self.display):
                self._pipeline(start)
        except (KeyboardInterrupt, signals.Stopped):
            error = failures.Interrupted()
        except Exception as caught:
            traceback.print_exc()  # into the log
            error = failures.known(caught, self.config.out)
        return self.record.close(error)

    def _pipeline(self, start: str | None) -> None:
        found: dict[str, Any] = {}  # result of the thread: "scan", or "error"

        def hash_images() -> None:
            try:
                with progress.silent():  # the display shows the loading of libraries meanwhile
                    found["scan"] = self.listed or scan(self.config)
                    self.listed = None  # so that `found.pop` below frees the listing
            except BaseException as caught:  # Python would only print it; the main thread raises it
                found["error"] = caught

        # A daemon, so that an interrupted run does not wait until all images are hashed.
        hashing = threading.Thread(target=hash_images, name="scan", daemon=True)
        hashing.start()
        loading = time.monotonic()
        with self.display.step(LOADING), quick_imports():
            from imgpipe.models import distribution

            # A strategy of several workers has to exist before TensorFlow runs anything.
            distribution.prepare(self.config.train.strategy)
            from imgpipe.components.data_gate import schema
            from imgpipe.pipeline import graph
            from imgpipe.pipeline.runners import local
        self.record.import_seconds = round(time.monotonic() - loading, 3)
        with self.display.step("finding the images"):
            hashing.join()
            if "error" in found:
                raise found["error"]
            progress.advance(len(found["scan"].items))
        with self.display.step("finding weights"):  # before time is spent on the images
            settings = self.config.settings
            settings.backbone_spec().fetch(settings.size)
            preconditions.check_layers(settings)
        self.record.vocabulary = tuple(found["scan"].vocabulary)
        # The listing is freed here: 37 bytes per image, while the components run.
        plan = plans.make(self.config, found.pop("scan"), self.accept)
        self.record.plan = plan
        if plan.accepted_schema:
            schema.parse(
                plan.accepted_schema, str(self.config.schema_file)
            )  # before time is spent on the images
        # What an earlier run decided must not be taken for the decision of this one.
        self.config.decision_file.unlink(missing_ok=True)
        storage = graph.Storage(
            root=str(self.config.out / "artifacts"),
            metadata=local.metadata_config(self.config.out / metadata_file.NAME),
            run_directory=str(self.directory),
        )
        local_workers.prepare(beam_options.arguments(self.config.beam), self.directory)
        pipeline = graph.create_pipeline(self.config, plan, storage)
        local.run(pipeline, self._observer(plan), _from(pipeline, start))

    def _observer(self, plan: plans.Plan) -> Any:
        """Observer that updates the display, the timings for the report and the schema."""
        outer = self

        class Observer:
            def started(self, name: str) -> None:
                signals.check()  # the node before may have swallowed the exception of a signal
                if name == "Report":  # which reads the timings from this file
                    outer.record.write_timings()
                outer.display.started(name)

            def finished(self, result: NodeResult) -> None:
                outer.display.finished(result)
                outer.record.write_artifacts()  # also for a run that will be killed
                if result.name == "DataGate" and not plan.accepted_schema:
                    outer._keep_schema(plan.data_key)

            failed = staticmethod(self.display.failed)
            damaged = staticmethod(self.display.damaged)

        return Observer()

    def _keep_schema(self, data_key: str) -> None:
        """Write the accepted schema again if DataGate was cached and the file was removed."""
        from imgpipe.components.data_gate import component, origin, schema

        if not self.config.schema_file.is_file():
            inferred = component.read_schema(self.display.outputs["SchemaGen"]["schema"])
            accepted = schema.accepted(inferred, self.record.vocabulary)
            schema.write(accepted, str(self.config.schema_file))
            origin.write(self.config.schema_file, data_key)


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
