"""Files that a task leaves in the folder of its run, for the report of a run that fails."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.report.run_folder import Failure, RunFolder

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput


@dataclass(frozen=True)
class TaskNotes:
    """Description of a task in the compiled pipeline; see `exit_task.set_run_folder`.

    Attributes:
        directory: Folder of the run, in which `mounts.RUN` stands for the id of the run.
        component: Name of the component.
        artifacts: Names in the report by the key of the component's inputs and outputs.
    """

    directory: str = ""
    component: str = ""
    artifacts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> TaskNotes:
        """Read the argument ``--run_folder``."""
        return cls(**json.loads(text)) if text else cls()

    @property
    def output_folder(self) -> Path:
        """The folder ``run.out``, in which `directory` lies, see `compiler.run_directory`."""
        return Path(self.directory).parent.parent if self.directory else Path.cwd()

    def leave(self, given: ExecutorInput, run_directory: str) -> None:
        """Copy the artifacts that the report shows.

        Args:
            given: Inputs and outputs with paths in this container.
            run_directory: Folder of the run. "" leaves nothing.
        """
        if not run_directory:
            return
        read, written = (
            {
                self.artifacts[key]: Path(artifacts.artifacts[0].uri)
                for key, artifacts in side.artifacts.items()
                if key in self.artifacts and artifacts.artifacts
            }
            for side in (given.inputs, given.outputs)
        )
        RunFolder(Path(run_directory)).leave(read | written, written)

    def succeed(self, given: ExecutorInput, run_directory: str) -> None:
        """Copy the artifacts, and forget why an earlier attempt of the task failed."""
        self.leave(given, run_directory)
        if run_directory:
            RunFolder(Path(run_directory)).forget(self.component)

    def fail(self, given: ExecutorInput, run_directory: str, cause: str, exit_code: int) -> None:
        """Record why the task failed, and leave what it read and wrote.

        An error of the volume is ignored, because the message of the task matters more.
        """
        if not run_directory:
            return
        with contextlib.suppress(OSError):
            RunFolder(Path(run_directory)).record(Failure(self.component, cause, exit_code))
            self.leave(given, run_directory)
