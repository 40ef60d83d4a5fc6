"""Lists the runs of an output folder, and what changed from each run to the next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage import manifest
from imgpipe.components.image_evaluator.decision import DecidingAccuracy
from imgpipe.components.report.commands import NextCommand
from imgpipe.models.files.json_object import SCHEMA, SchemaNumber
from imgpipe.pipeline.output.past_run import PastRun, RunStatus
from imgpipe.pipeline.run_history.run_comparison import (
    Change,
    configuration_changes,
    data_changes,
)


class ChangesOfRun(TypedDict):
    """What changed since the previous run."""

    configuration: Annotated[list[Change], "Settings that changed."]
    data: Annotated[list[Change], "Numbers of images that changed."]


class ListedRun(TypedDict):
    """A run."""

    run: Annotated[str, "Name of the folder of the run."]
    folder: Annotated[str, "Path of the folder of the run."]
    started: Annotated[str, "Local time of the start."]
    status: Annotated[
        RunStatus,
        "How the run ended, as in the summary, or `working`, `killed`, or `damaged` where the "
        "summary cannot be read.",
    ]
    verdict: Annotated[str | None, "The decision as a sentence."]
    decided_by: Annotated[
        DecidingAccuracy | None,
        "The accuracy that decided about the model; null if none was evaluated.",
    ]
    images: Annotated[int | None, "Number of images."]
    classes: Annotated[int | None, "Number of classes."]
    changed: Annotated[ChangesOfRun, "What changed since the previous run."]
    version: Annotated[int | None, "Version that the run published; null if it published none."]
    seconds: Annotated[float | None, "Duration of the run."]
    report: Annotated[str | None, "Path of the report."]


class NewestVersion(TypedDict):
    """A published version."""

    number: Annotated[int, "Its number."]
    path: Annotated[str, "Its folder."]
    rolled_back_to: Annotated[
        int | None, "Version whose model it holds since a rollback; null if a run published it."
    ]


class RunList(TypedDict):
    """The runs of an output folder."""

    schema: SchemaNumber
    out: Annotated[str, "The output folder."]
    runs: Annotated[list[ListedRun], "The runs of the folder, the newest last."]
    next: Annotated[list[NextCommand], "The commands that go on from the newest run."]
    newest_version: Annotated[
        NewestVersion | None,
        "The newest intact version where the last run publishes; servers load it. Null if none.",
    ]


def list_runs(out: Path, runs: Sequence[PastRun], last: int) -> RunList:
    """Describe the newest runs of an output folder.

    Args:
        out: The output folder.
        runs: All runs of the folder, the oldest first.
        last: Number of runs that are described.
    """
    described = [_listed_run(run, runs[:number]) for number, run in enumerate(runs)]
    return {
        "schema": SCHEMA,
        "out": str(out),
        "runs": described[-last:],
        "next": runs[-1].next_commands if runs else [],
        "newest_version": _newest_version(runs),
    }


def _newest_version(runs: Sequence[PastRun]) -> NewestVersion | None:
    """Describe the version that a server loads, where the last run publishes."""
    newest = manifest.latest(runs[-1].versions_folder) if runs else None
    if newest is None:
        return None
    return {
        "number": newest.number,
        "path": str(newest.path),
        "rolled_back_to": newest.manifest.get("rolled_back_to"),
    }


def _listed_run(run: PastRun, earlier: Sequence[PastRun]) -> ListedRun:
    """Describe a run; the earlier runs are the oldest first."""
    counts = run.by_class
    summary = run.summary
    return {
        "run": run.name,
        "folder": str(run.folder),
        "started": run.started,
        "status": run.status,
        "verdict": summary["verdict"] if summary else None,
        "decided_by": run.decided_by,
        "images": sum(counts.values()) if counts else None,
        "classes": len(counts) if counts else None,
        "changed": _changes(run, earlier),
        "version": run.version,
        "seconds": summary["timings"]["total_s"] if summary else None,
        "report": summary["report"] if summary else None,
    }


def _changes(run: PastRun, earlier: Sequence[PastRun]) -> ChangesOfRun:
    # A run that failed early counted no images, so data is compared with the last that did.
    with_data = next((past_run for past_run in reversed(earlier) if past_run.by_class), None)
    return {
        "configuration": configuration_changes(earlier[-1], run) if earlier else [],
        "data": data_changes(with_data, run) if with_data and run.by_class else [],
    }
