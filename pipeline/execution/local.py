"""Runs the graph with TFX's launcher.

LocalDagRunner launches nodes in the same way, but it does not report cached nodes, durations and
outputs, which the progress display, the summary and the report need.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Collection, Iterable, Iterator
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
from imgpipe.models.files.atomic_write import sync_tree
from imgpipe.pipeline.definition.plan import NEVER_CACHED

#: TFX's resolver warns some 50 times in a run that a message of protobuf is true, as each one is.
_FALSE_WARNING = "ArtifactQuery.property_predicate is not supported."
logging.getLogger("absl").addFilter(lambda record: record.msg != _FALSE_WARNING)
# In a notebook, Beam warns that it cannot draw its collections, which nobody has asked for.
logging.getLogger("apache_beam.runners.interactive").setLevel(logging.ERROR)


class _OnDisk:
    """Forces outputs to disk; the other base class executes the component.

    The metadata database forces each entry to disk. After a power loss it would name artifacts that
    lost files or the end of them, which the next run would take from the cache.
    """

    def run_executor(self, execution_info: Any) -> Any:
        """Execute a component with what TFX's launcher passes."""
        result = super().run_executor(execution_info)  # type: ignore[misc]
        for artifacts in execution_info.output_dict.values():
            for artifact in artifacts:
                sync_tree(Path(artifact.uri))
        return result


class _Python(_OnDisk, python_executor_operator.PythonExecutorOperator):
    """Executes components that do not use Beam."""


class _Beam(_OnDisk, beam_executor_operator.BeamExecutorOperator):
    """Executes components that run on Beam."""


#: Value of the launcher's argument `custom_executor_operators`.
_OPERATORS = {
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


def metadata_config(path: Path) -> metadata_store_pb2.ConnectionConfig:
    """Create the connection to the SQLite store of ML Metadata at `path`."""
    return metadata.sqlite_metadata_connection_config(str(path))


def run(pipeline: tfx_pipeline.Pipeline, observer: Observer, fresh: Iterable[str] = ()) -> None:
    """Run all nodes of a pipeline with a metadata connection, in topological order.

    The cached outputs of the nodes in `fresh` are not used. What an earlier run made and is gone is
    made again. The first error of a node is raised unchanged.
    """
    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.now().isoformat()}
    )
    deployment = runner_utils.extract_local_deployment_config(ir)
    given = deployment.metadata_connection_config
    config = getattr(given, given.WhichOneof("connection_config"))
    with (
        _without_arguments(),
        kept_model.dropped_at_end(),
        _Connection(config) as connection,
    ):
        _forget_lost(connection.store, Path(config.sqlite.filename_uri).parent)
        not_cached = {*fresh, *NEVER_CACHED}
        for node in (entry.pipeline_node for entry in ir.nodes):
            _launch(node, ir, deployment, connection, observer, not_cached)


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


def _launch(
    node: Any,
    ir: Any,
    deployment: Any,
    connection: metadata.Metadata,
    observer: Observer,
    not_cached: Collection[str],
) -> None:
    """Launch one node of the compiled pipeline `ir`; see `run`."""
    name = node.node_info.id
    if name in not_cached:
        node.execution_options.caching_options.enable_cache = False
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
            custom_executor_operators=_OPERATORS,
        ).launch()
        result = _result(connection.store, name, time.monotonic() - start, info)
    except BaseException:
        observer.failed(name, time.monotonic() - start)
        raise
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


def _forget_lost(store: mlmd.MetadataStore, out: Path) -> None:
    """Mark the artifacts that are not in `out` any more as deleted, so that none is reused.

    TFX itself takes an artifact from the cache as long as its folder exists, and the database has
    absolute paths. After an output folder was copied or moved, they are those of another project,
    which may delete or change its artifacts.
    """
    here = out.resolve()  # the same folder may have been named by a link
    states = metadata_store_pb2.Artifact
    live = [artifact for artifact in store.get_artifacts() if artifact.state == states.LIVE]
    folders = [Path(artifact.uri).resolve() for artifact in live]
    lost = [
        artifact
        for artifact, folder in zip(live, folders, strict=True)
        if not (folder.is_relative_to(here) and folder.exists())
    ]
    for artifact in lost:
        artifact.state = states.DELETED
    if lost:
        store.put_artifacts(lost)
