"""Finds the run or the model that a path on the command line means.

The path may be an output folder, OUT; one version, OUT/model/N; or one run, OUT/runs/TIME. The same
path means the same for all commands, and a wrong one has the same answer.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.storage import manifest
from imgpipe.components.common.storage.manifest import Version
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.described_files import (
    MODEL_DIGEST,
    SAVED_MODEL,
    VOCABULARY,
    version_damage,
)
from imgpipe.models.files.regular_files import pattern_in
from imgpipe.models.finding import Finding
from imgpipe.models.settings.places import VERSIONS
from imgpipe.pipeline.output.output_folder import RUNS, OutputFolder, plain, received
from imgpipe.pipeline.output.run import Run

_NAMED = 3  # runs that a message names
#: How runs end that have decided about their model.
_DECIDED = ("blessed", "not_blessed", "not_published")


@dataclass(frozen=True)
class Model:
    """A published version, the model of a run, or another model that imgpipe has exported.

    Attributes:
        folder: Folder of the version, or of the SavedModel.
        trained_by: The run that trained a model which is not published; None for others.
        is_newest: Whether an output folder was named, of which this is the newest intact version.
    """

    folder: Path
    trained_by: Run | None = None
    is_newest: bool = False

    @property
    def versions(self) -> Path:
        """Folder of numbered versions, of which the model is one.

        Raises:
            ResourceError: Its folder is not named by a number.
        """
        if self.version is None:
            renaming = shlex.join(["mv", str(self.folder), str(self.folder.parent / "1")])
            raise ResourceError(
                f"{self.folder} is a SavedModel in a folder that is not named by a version. "
                f"Expected: a name such as 1. Rename it: {renaming}"
            )
        return self.folder.parent

    @property
    def published(self) -> Version:
        """The published version with its manifest.

        Raises:
            ResourceError: It is not intact, or no run published it.
        """
        version = manifest.intact(self.versions, int(self.folder.name))
        if version is None:
            raise _damaged(self.folder, version_damage(self.folder))
        return version

    @property
    def notice(self) -> str:
        """Why the model is not published, as a sentence; "" for a published version."""
        if self.trained_by is None:
            return ""
        verdict = self.trained_by.verdict
        if self.trained_by.status in _DECIDED:  # with which the verdict begins
            return f"This model was {verdict}."
        return f"This model was not published. Its run ended: {verdict}."

    @property
    def publish_commands(self) -> list[Finding]:
        """The commands that publish it; empty for a published version, or if none can."""
        return self.trained_by.publish_commands if self.trained_by is not None else []

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities.

        The file in the assets of the SavedModel decides. The manifest and the schema
        repeat the names for people and for programs that do not open the model.
        """
        return tuple((self.folder / VOCABULARY).read_text("utf-8").splitlines())

    @property
    def version(self) -> int | None:
        """Number of the version, None if its folder is not named by one."""
        name = self.folder.name
        return int(name) if name.isdecimal() else None

    @property
    def image_size(self) -> int:
        """Width and height of the network's input, from the file that describes the version.

        Raises:
            ResourceError: The file does not say it.
        """
        size = json_object.read_or_empty(self.folder / MODEL_DIGEST).get("image_size")
        if isinstance(size, int):
            return size
        raise ResourceError(
            f"{self.folder} does not say the size of its images. Expected: image_size in "
            f"{MODEL_DIGEST}, which imgpipe writes. Run the pipeline again."
        )

    @property
    def run(self) -> Run | None:
        """The run that made the model; None if it cannot be found."""
        if self.trained_by is not None or self.version is None:
            return self.trained_by
        publishers = OutputFolder.above(self.folder).publishers(plain(self.folder))
        return publishers[-1] if publishers else None

    @property
    def training_images(self) -> str:
        """Folder of the images of the run that made the version; "" if it cannot be found."""
        run = self.run
        return run.artifact("ImageFilter", "examples") if run is not None else ""


def run(
    path: Path,
    fit: Callable[[Run], object] = lambda run: run.decided_by is not None,
    done: str = "has evaluated a model",
) -> Run:
    """Find the run that a path means.

    Args:
        path: Folder of a run; a version, for the run that published its model; or an output folder,
            for its newest run that fits.
        fit: Whether a run fits; the default is one that evaluated a model.
        done: What none of the runs has done if none fits, for the message.

    Raises:
        ResourceError: There is no such run, or its result is damaged.
    """
    folder = OutputFolder.find(path)
    out = folder.path
    path = plain(path)
    runs = folder.runs
    candidates = [each for each in runs if each.folder == path]
    missing = f"no run in {out} {done}"
    if not candidates:
        is_version = path.parent == out / VERSIONS and path.name.isdecimal()
        # Another run in the place of a misspelled one would be taken for the one that is meant.
        if path != out and not is_version:
            raise ResourceError(
                f"no run in {path}. Expected: the folder of a run in {out / RUNS}, or {out} itself "
                f"for its newest run. `imgpipe runs {shlex.quote(str(out))}` lists the runs."
            )
        if is_version:
            candidates = folder.publishers(path)
            missing = f"no run in {out} published version {manifest.pushed_as(path)}"
        else:
            candidates = list(filter(fit, runs))
    if candidates:
        candidates[-1].require_readable()
        return candidates[-1]
    for each in runs:  # one of these may be the run that is meant
        each.require_readable()
    names = ", ".join(each.name for each in runs[-_NAMED:])
    raise ResourceError(f"{missing}. Name the folder of a run. The newest are: {names}.")


def model(path: Path, version: int | None = None, published: bool = False) -> Model:
    """Find the model that a path means.

    Args:
        path: Output folder of the runs, or one version; or the folder of a run, for its model,
            which need not be published.
        version: Number of the version; None for the one that is named, or the newest intact one.
        published: Whether the model of a run that did not publish it is refused.

    Raises:
        ConfigError: TensorFlow would take the path for a pattern, there is no version of this
            number, or one model is named and this is another one.
        ResourceError: There is no model, no such run, the model is damaged or was removed, or it is
            one of another program.
    """
    path = path.expanduser()
    if why := pattern_in(path.absolute()):
        raise ConfigError(why)
    above = plain(path).parent
    if above.name == RUNS and OutputFolder(above.parent).started:
        meant = _model_of(run(path), published)
    elif (path / SAVED_MODEL).is_file():
        meant = Model(plain(path))
    else:
        meant = _version_below(path, version)
    if version not in (None, meant.version):
        raise ConfigError(
            f"{path} is one model, and version {version!r} is another one. Leave out the number, "
            "or name the output folder."
        )
    _require_usable(meant.folder)
    return meant


def _model_of(run: Run, published: bool) -> Model:
    """Return the version that a run published, or its model if there is no such version."""
    version = run.model
    if version is not None and (version / SAVED_MODEL).is_file():
        return Model(version)
    if published:
        raise ResourceError(
            f"the model of run {run.name} is not published. Expected: a published version. It "
            f"ended: {_ways_on(run)}"
        )
    return Model(run.trained_model(), run)


def _version_below(path: Path, number: int | None) -> Model:
    """Return the version of a number in an output folder, or the newest intact one."""
    base = plain(path) / VERSIONS
    if path.name.isdecimal() and not path.exists():  # a version that is gone
        base = plain(path).parent
        number = int(path.name)
    numbers = manifest.version_numbers(base)
    if not numbers:
        raise ResourceError(_no_model(path))
    if number is None:
        newest = manifest.latest(base)
        last = base / str(numbers[-1])
        _refuse_other_programs(last)  # which a server would load
        # Where none is intact, the last one is meant, which may be one that no run has published.
        return Model(newest.folder if newest else last, is_newest=True)
    if number not in numbers:
        known = ", ".join(map(str, numbers))
        raise ConfigError(f"{base} has no version {number!r}. Versions: {known}.")
    return Model(base / str(number))


def _require_usable(folder: Path) -> None:
    """Refuse a model that is not as a run published it, or that is one of another program."""
    if not (folder / manifest.MANIFEST).exists():
        _refuse_other_programs(folder)
        return
    damage = version_damage(folder)
    if damage:
        raise _damaged(folder, damage)


def _refuse_other_programs(folder: Path) -> None:
    """Refuse a SavedModel that names no classes."""
    if (folder / SAVED_MODEL).is_file() and not (folder / VOCABULARY).is_file():
        raise ResourceError(
            f"{folder} has no {VOCABULARY}. Expected: a model that imgpipe has exported, which "
            "names its classes there. TensorFlow Serving serves the models of other programs."
        )


def _damaged(folder: Path, damage: str) -> ResourceError:
    """Build the error for a model that is damaged, with what can be used instead."""
    base = folder.parent
    others = [str(version.number) for version in manifest.versions(base)]
    way = f"Choose another version: {', '.join(others)}"
    if not others:
        way = "Run `imgpipe run`, which publishes one."
    elif folder.name == str(manifest.version_numbers(base)[-1]):  # it is served
        out = shlex.quote(str(base.parent))
        way += f"; or publish an intact one again with: imgpipe rollback {out}"
    return ResourceError(f"{folder} is not intact as a run published it: {damage}. {way}")


def _no_model(path: Path) -> str:
    """Say that there is no model, and what can be done where none of the runs has published one."""
    folder = OutputFolder.above(path)
    out = folder.path
    runs = folder.runs
    if not runs or any(run.version is not None for run in runs):
        return (
            f"no model in {path}. Expected: the output folder of a run that published one, one "
            f"version, such as OUT/{VERSIONS}/1, or the folder of a run. Received: "
            f"{received(path)}. Run `imgpipe run`, or name another folder."
        )
    said = f"no model is published in {path}, although {out} has {plural(len(runs), 'run')}."
    evaluated = [run for run in runs if run.decided_by is not None]
    if evaluated:
        return f"{said} The newest that evaluated one: {_ways_on(evaluated[-1])}"
    look = f"Look at it:\n  imgpipe open {shlex.quote(str(out))}"
    return f"{said} None has evaluated one. The newest: {runs[-1].ending}. {look}"


def _ways_on(run: Run) -> str:
    """Say how a run ended that did not publish its model, how to try the model, and publish it."""
    said = (
        f"{run.ending}. Try this model without publishing it (predict, explain and evaluate take "
        f"this folder, too):\n  imgpipe serve {shlex.quote(str(run.folder))}"
    )
    for command in run.publish_commands:
        said += f"\nOr {command['sentence']}:\n  {command['remedies'][0]}"
    return said
