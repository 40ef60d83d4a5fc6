"""What a task leaves in the folder of its run on a volume: the report of a run that it ended.

Report itself writes the page of a run that reaches it. A task that refuses or fails draws the page
from the artifacts that it read and wrote.
"""

from __future__ import annotations

import json
import shutil
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.plan import FILE as PLAN_FILE
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput

FAILURE = "failure.json"


@dataclass(frozen=True)
class RunFolder:
    """Description of a task in the compiled pipeline.

    Attributes:
        directory: Folder of the run, in which `mounts.RUN` stands for the id of the run.
        component: Name of the component.
        artifacts: Names in the report by the key of the component's inputs and outputs.
    """

    directory: str = ""
    component: str = ""
    artifacts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> RunFolder:
        """Read the argument ``--run_folder``."""
        return cls(**json.loads(text)) if text else cls()

    @property
    def output_folder(self) -> Path:
        """The folder ``run.out``, in which the folder of the run lies."""
        return Path(self.directory).parent.parent if self.directory else Path.cwd()

    def keep_plan(self, given: ExecutorInput, run: str) -> None:
        """Copy what Plan determined, which has the settings of the page, into the folder `run`."""
        if self.component == "Plan" and run:
            [plan] = given.outputs.artifacts["plan"].artifacts
            Path(run).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(plan.uri) / PLAN_FILE, Path(run) / PLAN_FILE)

    def fail(self, given: ExecutorInput, run: str, cause: str, exit_code: int) -> None:
        """Write why this task ended the run, and the page if Plan had succeeded, into `run`.

        An error is only printed, since it must not take the place of the one that ended the run.
        """
        from imgpipe.components.report import component, facts, verdict

        try:
            Path(run).mkdir(parents=True, exist_ok=True)
            failure = {"component": self.component, "cause": cause, "exit_code": exit_code}
            atomic_write(Path(run) / FAILURE, json.dumps(failure, indent=1) + "\n")
            if not (Path(run) / PLAN_FILE).is_file():
                return
            plan = json_object.read(Path(run) / PLAN_FILE)
            sides = (given.inputs.artifacts, given.outputs.artifacts)
            found = {key: one.artifacts[0].uri for side in sides for key, one in side.items()}
            uris = {name: found[key] for key, name in self.artifacts.items() if key in found}
            collected = facts.collect(uris, json.loads(plan["report_settings"]))
            state = verdict.state(collected, cause, self.component)
            component.draw(collected, uris, [run], state)
        except Exception:
            traceback.print_exc()


def describe(spec: dict[str, Any], directory: str) -> None:
    """Tell each container the folder of the run, and what of its artifacts the report shows.

    Args:
        spec: The PipelineSpec, which is changed.
        directory: Folder of the run, in which `mounts.RUN` stands for the id of the run.
    """
    from imgpipe.components.report.facts import REPORTED

    names = {(row.component, row.output): name for name, row in REPORTED.items()}
    for task, described in spec["root"]["dag"]["tasks"].items():
        component = spec["components"][described["componentRef"]["name"]]
        written = component.get("outputDefinitions", {}).get("artifacts", {})
        keys = {key: (task, key) for key in written}
        for key, source in described.get("inputs", {}).get("artifacts", {}).items():
            made = source["taskOutputArtifact"]
            keys[key] = (made["producerTask"], made["outputArtifactKey"])
        shown = {key: names[made] for key, made in keys.items() if made in names}
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        container["args"] += ["--run_folder", json.dumps(asdict(RunFolder(directory, task, shown)))]
