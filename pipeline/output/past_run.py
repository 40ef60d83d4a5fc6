"""A run of an output folder, read from the files that it left in its own folder.

It imports neither TensorFlow nor TFX, so that commands which only look at runs answer at once.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage import manifest
from imgpipe.components.data_gate import rules
from imgpipe.components.image_evaluator.decision import DecidingAccuracy
from imgpipe.components.image_filter import quarantine
from imgpipe.components.model_pusher.settings import VERSIONS
from imgpipe.components.report.commands import NextCommand, next_commands
from imgpipe.components.run_record.facts import Facts
from imgpipe.components.run_record.metrics import SplitMetrics
from imgpipe.components.run_record.run_folder import ARTIFACTS, CONFIG, FACTS, PAGE, SUMMARY
from imgpipe.models.errors import ResourceError
from imgpipe.models.files import json_object
from imgpipe.pipeline.output import run_summary
from imgpipe.pipeline.output.run_summary import RunStatus, RunSummary

#: Root of the artifacts, below the output folder.
ARTIFACT_ROOT = "artifacts"
ARTIFACT_PARTS = 3  # parts of an artifact's path below its root: component, output, number
TIME = "%Y%m%d-%H%M%S"  # of the start, with which the name of a run begins
_LENGTH = len("20260101-000000")
_ARTIFACTS = TypeAdapter(dict[str, dict[str, str]])


class DescribedRun(TypedDict):
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
    version: Annotated[int | None, "Version that the run published; null if it published none."]
    seconds: Annotated[float | None, "Duration of the run."]
    report: Annotated[str | None, "Path of the report."]


@dataclass(frozen=True)
class PastRun:
    """A run that has started at some time.

    Attributes:
        folder: Folder of the run with its report, summary, log and configuration.
        summary: The summary that `--json` writes, which the reference documents; of a run that is
            working or was killed, or whose summary is damaged, only the status is known.
        fault: Why the summary cannot be read, "" if it can or if there is none.
    """

    folder: Path
    summary: RunSummary = field(repr=False)
    fault: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Name of the folder, which is the time of the start."""
        return self.folder.name

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.folder.parent.parent

    @property
    def model(self) -> Path | None:
        """Folder of the version that serves the model of this run; None if there is none."""
        return None if self.version is None else self.versions_folder / str(self.version)

    @property
    def report(self) -> Path | None:
        """Path of the page; None if none was written."""
        page = self.folder / PAGE
        return page if page.is_file() else None

    @property
    def status(self) -> RunStatus:
        """How the run ended: a status of the summary, or `working`, `killed` or `damaged`."""
        return self.summary["status"]

    @property
    def verdict(self) -> str:
        """The sentence that the command prints; "" if the run left none."""
        return self.summary["verdict"]

    @property
    def metrics(self) -> Mapping[str, SplitMetrics]:
        """Metrics such as `accuracy` and `per_class`, of what decided and of the test split.

        Their keys are `folds` or `validation`, whichever decided, and `test`. It is empty without a
        model.
        """
        return self.summary["metrics"]

    @property
    def started(self) -> str:
        """Local time of the start as `2026-01-31 14:05:59`; the name if it is not a time."""
        try:
            moment = time.strptime(self.name[:_LENGTH], TIME)
        except ValueError:
            return self.name
        return time.strftime("%Y-%m-%d %H:%M:%S", moment)

    @property
    def decided_by(self) -> DecidingAccuracy | None:
        """The accuracy that decided about the model; None for a run that evaluated none."""
        gate = self.summary["gate"]
        return gate["decided_by"] if gate is not None and gate["decided_by"]["count"] else None

    @property
    def version(self) -> int | None:
        """Number of the version that serves the model of this run, None if there is none."""
        push = self.summary["push"]
        if push["status"] == "refused" or push["version"] is None:
            return None
        return int(push["version"])

    @property
    def versions_folder(self) -> Path:
        """Folder into which the run publishes."""
        return self.out / VERSIONS

    @property
    def described(self) -> DescribedRun:
        """The run as `imgpipe runs` and `imgpipe compare` write it."""
        counts = self.by_class
        return {
            "run": self.name,
            "folder": str(self.folder),
            "started": self.started,
            "status": self.status,
            "verdict": self.verdict or None,
            "decided_by": self.decided_by,
            "images": sum(counts.values()) if counts else None,
            "classes": len(counts) if counts else None,
            "version": self.version,
            "seconds": self.summary["timings"]["total_s"] or None,
            "report": self.summary["report"],
        }

    @property
    def by_class(self) -> dict[str, int]:
        """Number of kept images by class, over all splits."""
        data = self.summary["data"]
        return rules.by_class(data) if data is not None else {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings by section; empty if the configuration cannot be read."""
        try:
            content = tomllib.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
            # No setting is a date, which JSON has no value for, but a damaged file may hold one.
            settings: dict[str, Any] = json.loads(json.dumps(content, default=str))
            return settings
        except (OSError, ValueError, RecursionError):
            return {}

    def setting(self, section: str, key: str) -> Any:
        """Return a setting; None if it is not set or cannot be read."""
        table = self.config.get(section)
        return table.get(key) if isinstance(table, dict) else None

    @cached_property
    def facts(self) -> Facts | None:
        """What the page was drawn from; None if its file is missing or damaged."""
        facts = json_object.read_or_empty(self.folder / FACTS)
        return cast(Facts, facts) if facts.keys() >= Facts.__required_keys__ else None

    @cached_property
    def artifacts(self) -> dict[str, dict[str, str]] | None:
        """Folder of each artifact by component and output; None if there is no such record."""
        try:
            artifacts = json_object.read(self.folder / ARTIFACTS)
            return _ARTIFACTS.validate_python(artifacts, strict=True)
        except (OSError, ValueError):  # of which pydantic's error is one
            return None

    def artifact(self, component: str, output: str) -> str:
        """Return the folder of an artifact, "" if it was not recorded or no longer exists.

        After the output folder was moved, another project may have taken its former place, so that
        the output folder comes first.
        """
        uri = (self.artifacts or {}).get(component, {}).get(output, "")
        here = self.out.joinpath(ARTIFACT_ROOT, *Path(uri).parts[-ARTIFACT_PARTS:])
        return next((str(path) for path in (here, Path(uri)) if uri and path.is_dir()), "")

    @property
    def next(self) -> list[NextCommand]:
        """The commands that look at the report, mend the data, and try, publish or use a model.

        There are none without a report or its facts.
        """
        facts = self.facts
        if not self.verdict or facts is None or self.report is None:
            return []
        identity = facts["identity"]
        if identity is not None:  # the folders may have been moved since
            facts = {**facts, "identity": {**identity, "folder": str(self.folder)}}
        push = facts["push"]
        if push is not None and self.model is not None:
            facts = {**facts, "push": {**push, "path": str(self.model)}}
        elif push is not None and push["withdrawn"] is not None:
            served = manifest.served(self.versions_folder)
            if served is not None and served.holds(int(push["withdrawn"])):  # published again since
                facts = {**facts, "push": {**push, "path": str(served.path), "withdrawn": None}}
        timings, cached = self.summary["timings"], self.summary["cached"]
        return next_commands(facts, self.status, timings, cached, self.moved)

    @property
    def publish_commands(self) -> list[NextCommand]:
        """The commands that publish its model; empty if it is published, or if none can."""
        return [command for command in self.next if command["purpose"] == "publish"]

    @property
    def moved(self) -> list[str]:
        """Arguments with which it runs again where its output folder is now; [] if not moved."""
        return [] if self.setting("run", "out") == str(self.out) else ["--out", str(self.out)]

    @property
    def quarantine(self) -> Path | None:
        """Folder of the files that the run rejected, None if it no longer exists."""
        uri = self.artifact("ImageFilter", "quarantine")
        return Path(uri) if uri and (Path(uri) / quarantine.MANIFEST).is_file() else None

    def require_readable(self) -> None:
        """Refuse a run whose summary is damaged.

        Raises:
            ResourceError: The summary cannot be read.
        """
        if self.fault:
            raise ResourceError(
                f"cannot read {self.folder / SUMMARY} ({self.fault}). Expected the summary that a "
                "run leaves in its folder. Restore the file, or name another run."
            )


def read(folder: Path, working: bool = False) -> PastRun:
    """Read a run from its folder; `working` says whether it is working now."""
    try:
        return PastRun(folder, run_summary.read(json_object.read(folder / SUMMARY)))
    except FileNotFoundError:
        return PastRun(folder, run_summary.unknown("working" if working else "killed"))
    except (OSError, ValueError) as error:
        return PastRun(folder, run_summary.unknown("damaged"), str(error))
