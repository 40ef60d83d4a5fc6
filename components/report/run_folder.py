"""The folder in which the tasks of one run on Kubeflow leave what the page of a failed run shows.

The orchestrator starts the exit task of a failed run without inputs, because it could not resolve
those whose task did not run. Therefore each task leaves the small artifacts that it read or wrote
on a volume. A task whose outputs came from the cache leaves nothing, but the tasks that read these
outputs do.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from imgpipe.components.image_filter import quarantine
from imgpipe.components.plan import FILE as PLAN_FILE
from imgpipe.components.report.inputs import REPORTED
from imgpipe.models.files import folder_move, json_object
from imgpipe.models.files.atomic_write import TEMPORARY, atomic_write

#: Names in `inputs.REPORTED` of the artifacts that are left, by component and output.
_SMALL = {(row.component, row.output): name for name, row in REPORTED.items() if row.small}
#: Name of the artifact of Plan, which holds the settings of the run.
PLAN = "plan"
_QUARANTINE = _SMALL["ImageFilter", "quarantine"]
_ARTIFACTS, _FAILURE = "artifacts", "failure.json"


@dataclass(frozen=True)
class Failure:
    """Why a run ended.

    Attributes:
        component: The component that failed.
        cause: What happened, for people.
        exit_code: Exit code that a run on one machine would have had.
    """

    component: str
    cause: str
    exit_code: int


def shown(component: str, output: str) -> str:
    """Name of an output in `inputs.REPORTED`, or `PLAN`, if it is to be left; otherwise ""."""
    if component == "Plan":
        return PLAN
    return _SMALL.get((component, output), "")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: Folder on a volume that all tasks of the run share.
    """

    path: Path

    def leave(self, artifacts: Mapping[str, Path], written: Collection[str] = ()) -> None:
        """Copy artifacts, by the names that `shown` gives them; what is there already is kept.

        Args:
            artifacts: Folders of the artifacts.
            written: Names of those that the task wrote itself. They take the place of what an
                earlier attempt has left.
        """
        for name, source in artifacts.items():
            target = self.path / _ARTIFACTS / name
            if name in written:
                shutil.rmtree(target, ignore_errors=True)
            if target.exists() or not source.is_dir() or not any(source.iterdir()):
                continue
            beside = target.with_name(f"{TEMPORARY}{name}-{uuid.uuid4().hex}")
            try:
                shutil.copytree(source, beside)  # moved when complete; tasks run at the same time
                if name == _QUARANTINE:
                    # The launcher of Kubeflow downloads it with files that all users can read.
                    quarantine.make_private(str(beside))
                with contextlib.suppress(OSError):  # another task was first
                    folder_move.move(beside, target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)

    def settings(self) -> str:
        """Return the settings of this run that the report shows, as JSON; "" if Plan left none."""
        try:
            found = json_object.read(self.path / _ARTIFACTS / PLAN / PLAN_FILE)
            settings = str(found["report_settings"])
            json_object.parse(settings)
        except (OSError, ValueError, KeyError):
            return ""
        return settings

    def artifacts(self) -> dict[str, str]:
        """Paths of the artifacts that were left, by their names in `inputs.REPORTED`."""
        paths = {name: self.path / _ARTIFACTS / name for name in _SMALL.values()}
        return {name: str(path) for name, path in paths.items() if path.is_dir()}

    def remove_artifacts(self, *, but_quarantine: bool = False) -> None:
        """Remove the artifacts that were left; the page has what it shows of them.

        Args:
            but_quarantine: Whether the quarantine stays, from which files may be restored.
        """
        for folder in (self.path / _ARTIFACTS).glob("*"):
            if folder.name != _QUARANTINE or not but_quarantine:
                shutil.rmtree(folder, ignore_errors=True)

    def record(self, failure: Failure) -> None:
        """Write why the run ended."""
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path / _FAILURE, json.dumps(asdict(failure), indent=1) + "\n")

    def forget(self, component: str) -> None:
        """Remove the failure of an attempt of this component, after which a retry succeeded."""
        if self.failure().component == component:
            (self.path / _FAILURE).unlink(missing_ok=True)

    def failure(self) -> Failure:
        """Read why the run ended; the usual cause where no task has told one."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
            found = json_object.read(self.path / _FAILURE)
            return Failure(str(found["component"]), str(found["cause"]), int(found["exit_code"]))
        cause = (
            "a container ended without a message: it ran out of memory, was evicted or could not "
            "start. Look at the task's pod: kubectl describe pod"
        )
        return Failure("a task", cause, 1)
