"""The files in the folder of a run: their names, the run's identity and its times."""

from __future__ import annotations

import contextlib
import platform
import shlex
import time
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final, cast

from typing_extensions import TypedDict

from imgpipe.components.common.storage.manifest import LAYOUT
from imgpipe.models.errors import ConfigError, nearest
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write

CONFIG: Final = "config.toml"  # with which the run can be repeated
TIMINGS: Final = "timings.json"  # the local runner updates it during the run
IDENTITY: Final = "identity.json"  # when and how the run was started
LOG: Final = "run.log"
PAGE: Final = "report.html"
RESULT: Final = "result.json"
ANSWERS: Final = "answers.json"  # to every image, for a review
ARTIFACT_ROOT: Final = "artifacts"  # of the artifacts that this run has made
ARTIFACTS: Final = "artifacts.json"  # where each output of a component is, also of earlier runs
#: Distributions whose versions can change a model or its evaluation.
_PACKAGES = (
    *("imgpipe", "tensorflow", "keras", "numpy", "pillow", "tfx"),
    *("tensorflow-model-analysis", "apache-beam"),
)
_DATE = "%Y-%m-%d %H:%M:%S %z"
#: What each component does, for the display of a run, in the order of the graph.
TASKS = {
    "Plan": "Plan the run",
    "ImageExampleGen": "Read the images",
    "ImageFilter": "Check the images",
    "StatisticsGen": "Describe the data",
    "SchemaGen": "Infer the schema",
    "ExampleValidator": "Compare with the schema",
    "DataGate": "Accept or refuse the data",
    "FeatureBank": "Compute the features",
    "ImageTrainer": "Train the model",
    "ServingValidator": "Check the model in a server",
    "ImageEvaluator": "Evaluate the model",
    "ModelPusher": "Publish a blessed model",
    "Report": "Write the report",
}


class Timings(TypedDict):
    """Times in seconds."""

    total_s: Annotated[float, "The whole run."]
    import_s: Annotated[float, "Loading TensorFlow and TFX."]
    components: Annotated[dict[str, float], "Components by name."]


#: Timings where they are not known.
UNTIMED: Final[Timings] = {"total_s": 0.0, "import_s": 0.0, "components": {}}


def read_timings(folder: str) -> Timings:
    """Read the timings of a run; `UNTIMED` where the local runner has written none."""
    # A page without timings is better than none.
    return cast(Timings, json_object.read_or_empty(Path(folder) / TIMINGS)) or UNTIMED


class Identity(TypedDict):
    """When and how a run was started, and the packages that it used."""

    date: Annotated[str, "Local time with its offset from UTC."]
    command: Annotated[str, "The command line; empty if it is not known."]
    packages: Annotated[dict[str, str], "Versions by the name of the package."]


def begin(folder: Path, settings: str, arguments: Sequence[str] = ()) -> None:
    """Write what a run knows at its start to its folder, by which commands find it.

    Args:
        folder: Folder of the run.
        settings: The configuration as TOML.
        arguments: The program and its arguments, as in `sys.argv`.
    """
    (folder / ARTIFACT_ROOT).mkdir(mode=0o700, exist_ok=True)  # images may be private
    note_start(folder, arguments)
    json_object.write(folder / ARTIFACTS, {})  # none so far
    atomic_write(folder / CONFIG, settings)  # the run has started


def note_start(folder: Path, arguments: Sequence[str]) -> None:
    """Write the layout, the time and the command line of a run to its folder.

    Args:
        folder: Folder of the run.
        arguments: The program and its arguments, as in `sys.argv`. Those of another program than
            `imgpipe`, which calls `imgpipe.run`, are not written, as they may hold secrets.
    """
    program = Path(arguments[0]).name if arguments else ""
    command = shlex.join([program, *arguments[1:]]) if program == "imgpipe" else ""
    noted = {"layout": LAYOUT, "date": _now(), "command": command}
    json_object.write(folder / IDENTITY, noted)


def other_version(folder: Path) -> str:
    """Say what to do if a run was made by another version of imgpipe, "" if it was by this one."""
    if json_object.read_or_empty(folder / IDENTITY).get("layout") == LAYOUT:
        return ""
    return (
        "made by another version of imgpipe: choose a new folder with --out; its published "
        "versions are still served"
    )


def read_identity(folder: str) -> Identity:
    """Read when and how a run was started from its folder; the date is now if none is noted."""
    noted = json_object.read_or_empty(Path(folder) / IDENTITY) if folder else {}
    return {
        "date": str(noted.get("date", _now())),
        "command": str(noted.get("command", "")),
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """Return the versions of Python and of the packages on which results depend."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # imgpipe may run from a folder
            versions[name] = metadata.version(name)
    return versions


def noted_start(folder: Path) -> datetime | None:
    """Return when a run was started in local time; None if that is not noted."""
    date = json_object.read_or_empty(folder / IDENTITY).get("date")
    try:
        return datetime.strptime(str(date), _DATE).astimezone()
    except ValueError:
        return None


def _now() -> str:
    """Return the local time with its offset from UTC, such as `2026-01-31 14:05:59 +0100`."""
    return time.strftime(_DATE)


def full_name(name: str) -> str:
    """Return the component that `--from` names, regardless of upper and lower case.

    Raises:
        ConfigError: There is no such component.
    """
    components = {component.lower(): component for component in TASKS}
    if name.lower() in components:
        return components[name.lower()]
    # A part of a name is enough for the hint, which is too short to be near the whole name.
    parts = [component for key, component in components.items() if name and name.lower() in key]
    hint = f"; nearest: {parts[0]}" if parts else nearest(name, TASKS)
    raise ConfigError(
        f"--from {name}: this pipeline has no such component{hint}. Components: {', '.join(TASKS)}."
    )


def step_name(component: str) -> str:
    """Return a component or another step as the display of a run shows it."""
    return f"{TASKS[component]} · {component}" if component in TASKS else component
