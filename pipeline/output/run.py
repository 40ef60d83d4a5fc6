"""A run, with what it left in its own folder.

It imports neither TensorFlow nor TFX, so that commands which only look at runs answer at once.
"""

from __future__ import annotations

import json
import shlex
import tomllib
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from imgpipe.components.common.storage import manifest
from imgpipe.components.data_gate import rules
from imgpipe.components.image_evaluator.decision import DecidingAccuracy
from imgpipe.components.image_filter import quarantine
from imgpipe.components.report.commands import next_commands, run_command
from imgpipe.components.run_record import result as results
from imgpipe.components.run_record import run_folder
from imgpipe.components.run_record.result import Result, Status, WithResult
from imgpipe.components.run_record.run_folder import ARTIFACTS, CONFIG, LOG, PAGE, RESULT
from imgpipe.models.errors import ImgpipeError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.described_files import SAVED_MODEL, SAVED_MODEL_FOLDER
from imgpipe.models.finding import Finding
from imgpipe.models.settings.places import VERSIONS

TIME = "%Y%m%d-%H%M%S"  # of the start, with which the name of a run begins
_LENGTH = len("20260101-000000")
_ARTIFACTS = TypeAdapter(dict[str, dict[str, str]])


@dataclass(frozen=True)
class Run(WithResult):
    """A run that has started at some time.

    Attributes:
        folder: Folder of the run with its report, result, log and configuration.
        result: The result that `--json` writes, which the reference documents; of a run that is
            working or was killed, or whose result cannot be read, only the status is known.
        fault: Why the result cannot be read, "" if it can or if there is none.
        exit_code: Exit code with which `imgpipe run` ends; 0 for a published model, and for a run
            that is read from its folder.
        repeated: Whether it is the outcome of an earlier run, because nothing has changed since.
        freed: Bytes of artifacts that were removed at its end, because they are no longer needed.
    """

    folder: Path
    result: Result = field(repr=False)
    fault: str = field(default="", repr=False)
    exit_code: int = 0
    repeated: bool = False
    freed: int = 0

    @classmethod
    def read(cls, folder: Path, working: bool = False) -> Run:
        """Read a run from its folder; `working` says whether it is working now."""
        if other := run_folder.other_version(folder):
            return cls._unknown(folder, "damaged", other)
        try:
            result = results.read(json_object.read(folder / RESULT))
        except FileNotFoundError:
            return cls._unknown(folder, "working" if working else "killed")
        except (OSError, ValueError) as error:
            return cls._unknown(folder, "damaged", str(error))
        # The output folder may have been moved since.
        return cls(folder, {**result, "out": str(folder.parent.parent)})

    @classmethod
    def _unknown(cls, folder: Path, status: Status, fault: str = "") -> Run:
        """Return a run of which only the status is known."""
        out = folder.parent.parent
        placed = {"out": str(out), "folder": str(folder.relative_to(out))}
        return cls(folder, results.new(status=status, **placed), fault)

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
        """Local time of the start as `2026-01-31 14:05:59`; the name if it is not known."""
        try:
            moment = datetime.strptime(self.name[:_LENGTH], TIME)
        except ValueError:  # a run on Kubeflow
            noted = run_folder.noted_start(self.folder)
            if noted is None:
                return self.name
            moment = noted
        return moment.strftime("%Y-%m-%d %H:%M:%S")

    @property
    def decided_by(self) -> DecidingAccuracy | None:
        """The accuracy that decided about the model; None for a run that evaluated none."""
        gate = self.result["gate"]
        return gate["decided_by"] if gate is not None and gate["decided_by"]["count"] else None

    @property
    def blessed(self) -> bool:
        """Whether the model passed all gates."""
        return self.status in ("blessed", "not_published")

    @property
    def accuracy(self) -> float | None:
        """The accuracy that decided about the model, from 0 to 1; None if none was evaluated.

        `result["gate"]["decided_by"]` says whether it is that of the folds or of the validation
        split, and on how many images.
        """
        return self.decided_by["accuracy"] if self.decided_by is not None else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson interval of this accuracy, 95 %; None if no model was evaluated."""
        if self.decided_by is None:
            return None
        low, high = self.decided_by["ci95"]
        return float(low), float(high)

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
            result = {**result, "push": {**push, "path": str(served.folder), "withdrawn": None}}
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
    def ending(self) -> str:
        """How it ended, as a sentence without its full stop."""
        if not self.verdict:
            return f"it is {self.status}" if self.status == "working" else f"it was {self.status}"
        return self.verdict.splitlines()[0].removesuffix(".")

    def trained_model(self) -> Path:
        """Return the folder of the SavedModel that it has trained, in its artifacts.

        A ResourceError says that it evaluated none, or that its model was removed.
        """
        if self.result["gate"] is None:
            raise ResourceError(
                f"run {self.name} has evaluated no model: {self.ending}. Expected: a run that did. "
                f"`imgpipe runs {shlex.quote(str(self.out))}` lists the runs."
            )
        model = Path(self.artifact("ImageTrainer", "model"), SAVED_MODEL_FOLDER)
        if not (model / SAVED_MODEL).is_file():
            kept = self.setting("run", "keep")
            raise ResourceError(
                f"the model of run {self.name} was removed: only the last {kept} runs (run.keep) "
                "and published versions keep theirs. Make it again: "
                f"{run_command(self.result, self.moved)}"
            )
        return model

    @property
    def quarantine(self) -> Path | None:
        """Folder of the files that the run rejected, None if it no longer exists."""
        uri = self.artifact("ImageFilter", "quarantine")
        return Path(uri) if uri and (Path(uri) / quarantine.FINDINGS).is_file() else None

    def require_readable(self) -> None:
        """Refuse a run whose result is damaged, or that another version of imgpipe made.

        Raises:
            ResourceError: The result cannot be read.
        """
        if self.fault:
            raise ResourceError(
                f"cannot read {self.folder / RESULT} ({self.fault}). Expected the result that a "
                "run of this imgpipe leaves in its folder. Restore the file, or run again."
            )

    def raise_for_status(self) -> Run:
        """Return the run itself if its model is published, otherwise raise the verdict.

        Raises:
            ImgpipeError: The model is not published; `exit_code` is that of the command line.
        """
        if self.exit_code:
            error = ImgpipeError(f"{self.verdict}. Log: {self.folder / LOG}")
            error.exit_code = self.exit_code
            raise error
        return self

    def show(self) -> None:
        """Display the page: in the output of a notebook's cell, otherwise in a browser."""
        from imgpipe.pipeline.results import show_page

        show_page(self, self.verdict, self.report)

    def _repr_html_(self) -> str | None:
        """Return the page in a frame, as notebooks display it; None if there is no page."""
        from imgpipe.pipeline.results import in_frame

        return in_frame(self.report.read_text("utf-8")) if self.report else None
