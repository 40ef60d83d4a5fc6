"""How the local runner executes a component: whole inputs in, an empty folder, sealed outputs out.

TFX lets a runner name its own executor operators. These add three things to TFX's: inputs are
compared with their seals before they are read, output folders are emptied before they are written
(execution numbers start again when the metadata database is lost, and shards of an earlier run
would be read as this one's), and outputs are sealed before they are published.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfx.orchestration.portable import beam_executor_operator, python_executor_operator
from tfx.proto.orchestration import executable_spec_pb2

from imgpipe.components import integrity

#: Components that show a little of large inputs, in every run: their inputs are compared by size
#: and modification time, or a run without changes would read all images for its page.
READS_LITTLE = frozenset({"Report"})


class Damaged(Exception):
    """An artifact is not what its component wrote.

    Attributes:
      folder: the artifact.
      node: the component that made it.
      what: what is wrong with it.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what = folder, what
        self.node = folder.parent.parent.name  # <root>/<node>/<output>/<execution>
        super().__init__(f"{folder} is damaged: {what}")


def require_whole(uris: Iterable[str]) -> None:
    """Compare cached artifacts with their seals, by size and modification time.

    Args:
      uris: folders of artifacts.

    Raises:
      Damaged: naming the first that is not whole.
    """
    for folder in map(Path, uris):
        if what := integrity.damage(folder, complete=False):
            raise Damaged(folder, what)


def _folders(artifacts: Mapping[str, Iterable[Any]]) -> list[Path]:
    return [Path(artifact.uri) for found in artifacts.values() for artifact in found]


class _Sealing:
    """What both operators add to TFX's; the class beside it in the bases does the work."""

    #: Artifacts whose every byte this process has compared, or written itself.
    compared: set[Path] = set()  # noqa: RUF012 - shared by all operators on purpose

    def run_executor(self, execution_info: Any) -> Any:
        """Execute a component.

        Args:
          execution_info: of TFX's launcher: inputs, outputs and parameters.

        Raises:
          Damaged: an input is not what its component wrote.
        """
        complete = execution_info.pipeline_node.node_info.id not in READS_LITTLE
        for folder in _folders(execution_info.input_dict):
            if folder in self.compared:
                continue
            if what := integrity.damage(folder, complete=complete):
                raise Damaged(folder, what)
            if complete:
                self.compared.add(folder)
        outputs = _folders(execution_info.output_dict)
        for folder in outputs:
            shutil.rmtree(folder)
            folder.mkdir()
        result = super().run_executor(execution_info)  # type: ignore[misc]
        for folder in outputs:
            integrity.seal(folder)
        self.compared.update(outputs)
        return result


class _Python(_Sealing, python_executor_operator.PythonExecutorOperator):
    """For components that need no Beam."""


class _Beam(_Sealing, beam_executor_operator.BeamExecutorOperator):
    """For components that run on Beam."""


#: For the launcher's `custom_executor_operators`.
OPERATORS = {
    executable_spec_pb2.PythonClassExecutableSpec: _Python,
    executable_spec_pb2.BeamExecutableSpec: _Beam,
}


def forget_comparisons() -> None:
    """Have every artifact compared again; called at the start of a run."""
    _Sealing.compared.clear()
