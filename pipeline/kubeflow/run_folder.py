"""What a task leaves in the folder of its run on a volume: the report of a run that it ended.

Report itself writes the page of a run that reaches it. A task that refuses or fails draws the page
from the artifacts that it read and wrote.
"""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path

from imgpipe.components.plan import FILE as PLAN_FILE
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.kubeflow.groups import artifact_name

FAILURE = "failure.json"


def keep_plan(plan: Path, run: Path) -> None:
    """Copy what Plan determined, which has the settings of the page, into the folder `run`."""
    run.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(plan / PLAN_FILE, run / PLAN_FILE)


def fail(component: str, artifacts: Mapping[str, str], run: Path, cause: str, code: int) -> None:
    """Write why a component ended the run, and the page if Plan had succeeded, into `run`.

    An error is only printed, since it must not take the place of the one that ended the run.

    Args:
        component: Name of the component.
        artifacts: Folders of the artifacts in the container, by their names in the pipeline.
        run: Folder of the run.
        cause: The error, for people.
        code: The exit code.
    """
    from imgpipe.components.report import report as page
    from imgpipe.components.run_record import collect, verdict

    try:
        run.mkdir(parents=True, exist_ok=True)
        failure = {"component": component, "cause": cause, "exit_code": code}
        atomic_write(run / FAILURE, json.dumps(failure, indent=1) + "\n")
        if not (run / PLAN_FILE).is_file():
            return
        plan = json_object.read(run / PLAN_FILE)
        made = {
            name: artifact_name(row.component, row.output) for name, row in collect.REPORTED.items()
        }
        uris = {name: artifacts[key] for name, key in made.items() if key in artifacts}
        facts = collect.collect(uris, json.loads(plan["report"]))
        page.draw(facts, uris, [str(run)], verdict.state(facts, cause, component))
    except Exception:
        traceback.print_exc()
