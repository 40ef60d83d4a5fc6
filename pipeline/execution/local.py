"""Runs the graph with TFX's launcher, and compares artifacts with their seals.

TFX lets a runner supply its own executor operators. In addition to what TFX's do, these compare
inputs with their seals before they are read, and seal outputs before they are published.

LocalDagRunner launches nodes in the same way, but it does not report cached nodes, durations and
outputs, which the progress display, the summary and the report need.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import (
    beam_executor_operator,
    launcher,
    python_executor_operator,
    runtime_parameter_utils,
)
from tfx.proto.orchestration import executable_spec_pb2

from imgpipe.components.common import kept_model
from imgpipe.components.common.storage import integrity
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.definition.plan import NEVER_CACHED
from imgpipe.pipeline.output import metadata_file
from imgpipe.pipeline.output.output_folder import OutputFolder

_log = logging.getLogger(__name__)
#: TFX's resolver warns some 50 times in a run that a message of protobuf is true, as each one is.
_FALSE_WARNING = "ArtifactQuery.property_predicate is not supported."
logging.getLogger("absl").addFilter(lambda record: record.msg != _FALSE_WARNING)
# In a notebook, Beam warns that it cannot draw its collections, which nobody has asked for.
logging.getLogger("apache_beam.runners.interactive").setLevel(logging.ERROR)
#: Runs every time and reads a small part of large inputs, which are compared by size and
#: modification time; otherwise a run without changes would read all images.
_READS_LITTLE = "Report"
#: Artifacts of which this run has compared or written every byte, and those that it has written.
compared: set[Path] = set()
written: set[Path] = set()


class Damaged(Exception):
    """An artifact differs from what its component wrote.

    Attributes:
        folder: Folder of the artifact.
        node: Component that made it.
        what: Description of the damage.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.folder = folder
        self.what = what
        self.node = folder.parent.parent.name  # <root>/<node>/<output>/<execution>
        super().__init__(f"{folder} is damaged: {what}")


def require_whole(folders: Iterable[Path], complete: bool = False) -> None:
    """Compare artifacts with their seals, by size and modification time or, if complete, by bytes.

    Raises `Damaged` for the first one that differs from its seal.
    """
    for folder in folders:
        what = integrity.damage(folder, complete=complete)
        if what:
            raise Damaged(folder, what)
        if complete:
            compared.add(folder)


def _folders(artifacts: Mapping[str, Iterable[Any]]) -> set[Path]:
    return {Path(artifact.uri) for of_output in artifacts.values() for artifact in of_output}


class _Sealing:
    """Checks and sealing for both operators; the other base class executes the component."""

    def run_executor(self, execution_info: Any) -> Any:
        """Execute a component with what TFX's launcher passes; may raise `Damaged`."""
        complete = execution_info.pipeline_node.node_info.id != _READS_LITTLE
        # Several components read the Examples.
        require_whole(_folders(execution_info.input_dict) - compared, complete)
        result = super().run_executor(execution_info)  # type: ignore[misc]
        for folder in _folders(execution_info.output_dict):
            integrity.seal(folder)
            compared.add(folder)
            written.add(folder)
        return result


class _Python(_Sealing, python_executor_operator.PythonExecutorOperator):
    """Executes components that do not use Beam."""


class _Beam(_Sealing, beam_executor_operator.BeamExecutorOperator):
    """Executes components that run on Beam."""


#: Value of the launcher's argument `custom_executor_operators`.
OPERATORS = {
    executable_spec_pb2.PythonClassExecutableSpec: _Python,
    executable_spec_pb2.BeamExecutableSpec: _Beam,
}


@dataclass(frozen=True)
class NodeResult:
    """The result of one node.

    Attributes:
        name: Name of the node.
        seconds: Duration.
        cached: Whether the outputs were taken from the cache.
        outputs: URI of each output by its name.
    """

    name: str
    seconds: float
    cached: bool
    outputs: dict[str, str] = field(default_factory=dict)


class Observer(Protocol):
    """Receives the events of a run."""

    def started(self, name: str) -> None:
        """Note that a node is about to run, or to be taken from the cache."""

    def finished(self, result: NodeResult) -> None:
        """Note that a node has run, or was taken from the cache."""

    def failed(self, name: str, seconds: float) -> None:
        """Note that a node raised an error after this many seconds."""

    def damaged(self, name: str, what: str) -> None:
        """Note that an artifact that a node reads or reuses is damaged; `what` names the damage."""


def metadata_config(path: Path) -> metadata_store_pb2.ConnectionConfig:
    """Create the connection to the SQLite store of ML Metadata at `path`."""
    return metadata.sqlite_metadata_connection_config(str(path))


def run(pipeline: tfx_pipeline.Pipeline, observer: Observer, fresh: Iterable[str] = ()) -> None:
    """Run all nodes of a pipeline with a metadata connection, in topological order.

    The cached outputs of the nodes in `fresh` are not used. A damaged artifact is removed and made
    again, at most once in a run. For this, all nodes are launched again, and those before the
    component are taken from the cache.

    The first error of a node is raised unchanged; an artifact that was made in this run and is
    damaged already raises ResourceError.
    """
    ir = compiler.Compiler().compile(pipeline)
    root = Path(pipeline.pipeline_info.pipeline_root)
    compared.clear()
    written.clear()
    not_cached = set(fresh)
    reported: set[str] = set()
    while True:
        try:
            with _without_arguments(), kept_model.dropped_at_end():
                # A copy, because launching writes the id of the run into the compiled pipeline.
                return _launch_all(copy.deepcopy(ir), observer, not_cached, reported, root)
        except Damaged as found:
            # An earlier execution with the same parameters may be in the cache, and damaged too.
            if found.folder in written:
                raise ResourceError(
                    f"{found.folder} was made in this run and is damaged already: "
                    f"{found.what}. Check the disk with its own tools, or choose --out OUT."
                ) from found
            _log.warning("%s; %s makes it again", found, found.node)
            integrity.remove(found.folder)
            names = [entry.pipeline_node.node_info.id for entry in ir.nodes]
            # The observer has heard of the nodes before this one, which now come from the cache.
            reported = set(names[: names.index(found.node)])


@contextlib.contextmanager
def _without_arguments() -> Iterator[None]:
    """Hide the arguments of the program in the block.

    TFX's Beam executors parse them as their own flags. The arguments of a program that calls
    `imgpipe.run`, such as `-v`, would end the run.
    """
    arguments = sys.argv
    sys.argv = arguments[:1]  # absl's flags take the first one for the name of the program
    try:
        yield
    finally:
        sys.argv = arguments


def _launch_all(
    ir: Any, observer: Observer, fresh: set[str], reported: Collection[str], root: Path
) -> None:
    """Launch all nodes of the compiled pipeline `ir` once, which changes it.

    The nodes in `reported` were reported to the observer before. A node that has ended is removed
    from `fresh`, the nodes whose cached outputs are not used.
    """
    runtime_parameter_utils.substitute_runtime_parameter(
        ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.now().isoformat()}
    )
    deployment = runner_utils.extract_local_deployment_config(ir)
    given = deployment.metadata_connection_config
    config = getattr(given, given.WhichOneof("connection_config"))
    with _Connection(config) as connection:
        _fail_interrupted(connection.store, root)
        _forget_moved(connection.store, root)
        metadata_file.skip_numbers(Path(config.sqlite.filename_uri), _highest_number(root))
        for node in (entry.pipeline_node for entry in ir.nodes):
            _launch(node, ir, deployment, connection, observer, fresh, reported)


def _launch(
    node: Any,
    ir: Any,
    deployment: Any,
    connection: metadata.Metadata,
    observer: Observer,
    fresh: set[str],
    reported: Collection[str],
) -> None:
    """Launch one node of the compiled pipeline `ir`; see `_launch_all`."""
    name = node.node_info.id
    if name in fresh or name in NEVER_CACHED:
        node.execution_options.caching_options.enable_cache = False
    if name not in reported:
        observer.started(name)
    start = time.monotonic()
    try:
        info = launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=connection,
            pipeline_info=ir.pipeline_info,
            pipeline_runtime_spec=ir.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, name),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
            custom_executor_operators=OPERATORS,
        ).launch()
        result = _result(connection.store, name, time.monotonic() - start, info)
        # TFX takes an artifact from the cache as long as its folder exists.
        if result.cached:
            require_whole(map(Path, result.outputs.values()))
    except Damaged as found:
        observer.damaged(name, str(found))
        raise
    except BaseException:
        observer.failed(name, time.monotonic() - start)
        raise
    fresh.discard(name)  # if all nodes are launched again, this one is taken from the cache
    if name not in reported:
        observer.finished(result)


class _Connection(metadata.Metadata):
    """A connection to ML Metadata that stays open while it is in use.

    TFX's launcher enters it four times for each node, and TFX opens the database anew each time,
    which checks the whole schema of the database.
    """

    def __enter__(self) -> _Connection:
        # TFX's `__exit__` counts `_users` down, and closes the store at 0.
        if self._store is None:
            super().__enter__()
        else:
            self._users += 1
        return self


def _result(store: mlmd.MetadataStore, name: str, seconds: float, info: Any) -> NodeResult:
    """State and output URIs of an execution according to ML Metadata."""
    [execution] = store.get_executions_by_id([info.execution_id])
    events = store.get_events_by_execution_ids([execution.id])
    events = [event for event in events if event.type == metadata_store_pb2.Event.OUTPUT]
    artifacts = {a.id: a for a in store.get_artifacts_by_id([e.artifact_id for e in events])}
    cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
    outputs = {event.path.steps[0].key: artifacts[event.artifact_id].uri for event in events}
    return NodeResult(name, seconds, cached, outputs)


def _fail_interrupted(store: mlmd.MetadataStore, root: Path) -> None:
    """Mark the executions of a killed run as failed and remove their incomplete artifacts.

    TFX would leave them in the state RUNNING. The caller holds the lock of the run, so no execution
    in this state is alive. Their folders are `<root>/<node>/<output>/<execution id>`.
    """
    states = metadata_store_pb2.Execution
    dead = [
        execution
        for execution in store.get_executions()
        if execution.last_known_state == states.RUNNING
    ]
    for execution in dead:
        execution.last_known_state = states.FAILED
        for folder in root.glob(f"*/*/{execution.id}"):
            shutil.rmtree(folder, ignore_errors=True)
    if dead:
        store.put_executions(dead)


def _forget_moved(store: mlmd.MetadataStore, root: Path) -> None:
    """Mark the artifacts outside of `root` as deleted, so that none is taken from the cache.

    The database records absolute paths. After the output folder was moved, another project may have
    taken its former place, and TFX only asks whether the folder of an artifact exists.
    """
    here = root.resolve()  # the same folder may have been named by a link
    states = metadata_store_pb2.Artifact
    live = [artifact for artifact in store.get_artifacts() if artifact.state == states.LIVE]
    moved = [artifact for artifact in live if not Path(artifact.uri).resolve().is_relative_to(here)]
    for artifact in moved:
        artifact.state = states.DELETED
    if moved:
        store.put_artifacts(moved)


def _highest_number(root: Path) -> int:
    """Return the highest number of an execution that a folder has or a run recorded, or 0."""
    names = {folder.name for folder in root.glob("*/*/[0-9]*")}
    for run in OutputFolder(root.parent).runs:  # whose artifacts may have been removed
        outputs = (run.artifacts or {}).values()
        names |= {Path(uri).name for artifacts in outputs for uri in artifacts.values()}
    return max((int(name) for name in names if name.isdecimal()), default=0)
