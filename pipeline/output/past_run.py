"""A run of an output folder, read from the files that it left in its own folder.

It imports neither TensorFlow nor TFX, so that commands which only look at runs answer at once.
"""

from __future__ import annotations

import json
import time
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage import manifest
from imgpipe.components.data_gate import rules
from imgpipe.components.image_evaluator.decision import DecidingAccuracy
from imgpipe.components.image_filter import quarantine
from imgpipe.components.model_pusher.settings import VERSIONS
from imgpipe.components.report.commands import next_commands
from imgpipe.components.run_record import result as results
from imgpipe.components.run_record import run_folder
from imgpipe.components.run_record.result import Result, Status, WithResult
from imgpipe.components.run_record.run_folder import ARTIFACTS, CONFIG, PAGE, RESULT
from imgpipe.models.errors import ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.finding import Finding

#: Root of the artifacts, below the output folder.
ARTIFACT_ROOT = "artifacts"
ARTIFACT_PARTS = 3  # parts of an artifact's path below its root: component, output, number
#: Why the result of a run of an earlier layout is not read.
_EARLIER = "the run is of an earlier layout, of which only the page is shown"
TIME = "%Y%m%d-%H%M%S"  # of the start, with which the name of a run begins
_LENGTH = len("20260101-000000")
_ARTIFACTS = TypeAdapter(dict[str, dict[str, str]])


class DescribedRun(TypedDict):
    """A run."""

    run: Annotated[str, "Name of the folder of the run."]
    folder: Annotated[str, "Path of the folder of the run."]
    started: Annotated[str, "Local time of the start."]
    status: Annotated[Status, "How the run ended, as in its result."]
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
class PastRun(WithResult):
    """A run that has started at some time.

    Attributes:
        folder: Folder of the run with its report, result, log and configuration.
        result: The result that `--json` writes, which the reference documents; of a run that is
            working or was killed, or whose result cannot be read, only the status is known.
        fault: Why the result cannot be read, "" if it can or if there is none.
    """

    folder: Path
    result: Result = field(repr=False)
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
        gate = self.result["gate"]
        return gate["decided_by"] if gate is not None and gate["decided_by"]["count"] else None

    @property
    def version(self) -> int | None:
        """Number of the version that serves the model of this run, None if there is none."""
        push = self.result["push"]
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
            "seconds": self.result["timings"]["total_s"] or None,
            "report": None if self.report is None else str(self.report),
        }

    @property
    def by_class(self) -> dict[str, int]:
        """Number of kept images by class, over all splits."""
        data = self.result["data"]
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
    def artifacts(self) -> dict[str, dict[str, str]] | None:
        """Path of each artifact by component and output; None if there is no such record."""
        try:
            artifacts = json_object.read(self.folder / ARTIFACTS)
            return _ARTIFACTS.validate_python(artifacts, strict=True)
        except (OSError, ValueError):  # of which pydantic's error is one
            return None

    def artifact(self, component: str, output: str) -> str:
        """Return the folder of an artifact, "" if it was not recorded or no longer exists."""
        path = (self.artifacts or {}).get(component, {}).get(output, "")
        folder = self.out / path  # which is relative, if it lies in the output folder
        return str(folder) if path and folder.is_dir() else ""

    @property
    def next(self) -> list[Finding]:
        """The commands that look at the report, mend the data, and try, publish or use a model.

        There are none without a report.
        """
        if not self.verdict or self.report is None:
            return []
        result = self.result
        push = result["push"]
        served = manifest.served(self.versions_folder) if push["withdrawn"] is not None else None
        if served is not None and served.holds(int(push["withdrawn"] or 0)):  # published again
            result = {**result, "push": {**push, "path": str(served.path), "withdrawn": None}}
        return next_commands(result, self.moved)

    @property
    def publish_commands(self) -> list[Finding]:
        """The commands that publish its model; empty if it is published, or if none can."""
        return [command for command in self.next if command["reason"] == "publish"]

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
        """Refuse a run whose result is damaged, or of an earlier layout.

        Raises:
            ResourceError: The result cannot be read.
        """
        if self.fault:
            raise ResourceError(
                f"cannot read {self.folder / RESULT} ({self.fault}). Expected the result that a "
                "run of this imgpipe leaves in its folder. Restore the file, or run again."
            )


def read(folder: Path, working: bool = False) -> PastRun:
    """Read a run from its folder; `working` says whether it is working now."""
    if not run_folder.is_readable(folder):
        return _unknown(folder, "earlier_layout", _EARLIER)
    try:
        result = results.read(json_object.read(folder / RESULT))
    except FileNotFoundError:
        return _unknown(folder, "working" if working else "killed")
    except (OSError, ValueError) as error:
        return _unknown(folder, "damaged", str(error))
    # The output folder may have been moved since.
    return PastRun(folder, {**result, "out": str(folder.parent.parent)})


def _unknown(folder: Path, status: Status, fault: str = "") -> PastRun:
    """Return a run of which only the status is known."""
    out = folder.parent.parent
    placed = {"out": str(out), "folder": str(folder.relative_to(out))}
    return PastRun(folder, results.new(status=status, **placed), fault)
