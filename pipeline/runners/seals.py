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

from imgpipe.components.storage import integrity

#: Components that run every time and read a small part of large inputs. Their inputs are compared
#: by size and modification time; otherwise a run without changes would read all images.
READS_LITTLE = frozenset({"Report"})


class Damaged(Exception):
    """An artifact differs from what its component wrote.

    Attributes:
        folder: Folder of the artifact.
        node: Component that made it.
        what: Description of the damage.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what = folder, what
        self.node = folder.parent.parent.name  # <root>/<node>/<output>/<execution>
        super().__init__(f"{folder} is damaged: {what}")


def require_whole(uris: Iterable[str]) -> None:
    """Compare cached artifacts with their seals, by size and modification time.

    Args:
        uris: Folders of artifacts.

    Raises:
        Damaged: An artifact differs from its seal; the error names the first one.
    """
    for folder in map(Path, uris):
        if what := integrity.damage(folder, complete=False):
            raise Damaged(folder, what)


def _folders(artifacts: Mapping[str, Iterable[Any]]) -> list[Path]:
    return [Path(artifact.uri) for found in artifacts.values() for artifact in found]


class _Sealing:
    """Checks and sealing for both operators; the other base class executes the component."""

    #: Artifacts of which this process has compared or written every byte.
    compared: set[Path] = set()  # noqa: RUF012 - shared by all operators on purpose
    #: Artifacts that this run has written.
    written: set[Path] = set()  # noqa: RUF012

    def run_executor(self, execution_info: Any) -> Any:
        """Execute a component.

        Args:
            execution_info: Inputs, outputs and parameters from TFX's launcher.

        Returns:
            The result of TFX's operator.

        Raises:
            Damaged: An input differs from what its component wrote.
        """
        complete = execution_info.pipeline_node.node_info.id not in READS_LITTLE
        for folder in _folders(execution_info.input_dict):
            if folder in self.compared:  # several components read the Examples
                continue
            if what := integrity.damage(folder, complete=complete):
                raise Damaged(folder, what)
            if complete:
                self.compared.add(folder)
        result = super().run_executor(execution_info)  # type: ignore[misc]
        outputs = _folders(execution_info.output_dict)
        for folder in outputs:
            integrity.seal(folder)
        self.compared.update(outputs)
        self.written.update(outputs)
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


def start_run() -> None:
    """Forget which artifacts the run before has compared and written."""
    _Sealing.compared.clear()
    _Sealing.written.clear()


def was_written(folder: Path) -> bool:
    """Whether this run has written the artifact in a folder.

    Args:
        folder: Folder of the artifact.
    """
    return folder in _Sealing.written
