"""Executor operators of the local runner, which check inputs and seal outputs.

TFX lets a runner supply its own executor operators. In addition to what TFX's do, these compare
inputs with their seals before they are read, and seal outputs before they are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfx.orchestration.portable import beam_executor_operator, python_executor_operator
from tfx.proto.orchestration import executable_spec_pb2

from imgpipe.components.common.storage import integrity

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

    Raises:
        Damaged: An artifact differs from its seal; the error names the first one.
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
