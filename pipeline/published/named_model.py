"""Finds the model that a path means, for every command that takes one.

The path may be an output folder, a folder of numbered versions, one version, or the folder of a
run. The same path means the same model for all commands, and a wrong one has the same answer.
"""

from __future__ import annotations

import operator
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.storage import integrity, manifest
from imgpipe.components.model_pusher.settings import VERSIONS
from imgpipe.components.report.commands import run_command
from imgpipe.components.run_record.run_files import CONFIG
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.described_files import version_damage
from imgpipe.models.files.plain_paths import pattern_in
from imgpipe.models.files.version_files import SAVED_MODEL, SAVED_MODEL_FOLDER, VOCABULARY
from imgpipe.pipeline.output import past_runs, places, run_folders
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.output.run_folders import RUNS
from imgpipe.pipeline.published.model import Model

#: Stands for the newest run that evaluated a model.
NEWEST = "newest"
_NAMED = 3  # versions whose damage a message names


@dataclass(frozen=True)
class NamedModel:
    """The model that a path means.

    Attributes:
        name: The path or the run, as a message names it.
        versions: Folder of numbered versions; None for a model that is not one of them.
        folder: Folder of the one model that is meant; None for the newest one of `versions`, and
            for a run whose model is not published.
        run: The run whose model is meant and is not published; None for all others.
    """

    name: str
    versions: Path | None = None
    folder: Path | None = None
    run: PastRun | None = None

    @property
    def is_one(self) -> bool:
        """Whether one model is meant, and no other version beside it."""
        return self.folder is not None or self.run is not None

    @property
    def number(self) -> int | None:
        """Number of the one version that is meant; None for the newest, or one without a number."""
        if self.versions is None or self.folder is None:
            return None
        return int(self.folder.name)

    def model(self, number: int | None = None) -> Model:
        """Return the model.

        Args:
            number: Number of the version; None for the one that is named, or the newest intact one.

        Raises:
            ConfigError: There is no version of this number, or it is no integer, or one model is
                named and this is another one.
            ResourceError: The model is damaged, or was removed.
        """
        try:
            wanted = None if number is None else str(operator.index(number))  # also NumPy's
        except TypeError:
            raise ConfigError(
                f"expected the number of a version as an integer. Received: {number!r}."
            ) from None
        if self.is_one and wanted not in (None, str(self.number)):
            others = f", or name {self.versions}" if self.versions is not None else ""
            raise ConfigError(
                f"{self.name} is one model, and version {wanted} is another one. Leave out the "
                f"number{others}."
            )
        if self.run is not None:
            return Model(_trained(self.run), self.run)
        return Model(self._intact(wanted))

    def require_published(self) -> None:
        """Refuse the model of a run that did not publish it.

        Raises:
            ResourceError: It is such a model.
        """
        if self.run is not None:
            raise ResourceError(
                f"the model of run {self.run.name} is not published. Expected: a published "
                f"version. It ended: {_ways_on(self.run, self.run.name)}"
            )

    def numbered(self) -> Path:
        """Return the folder of numbered versions, for a command that reads several of them.

        Raises:
            ResourceError: The model is not published, or its folder is not named by a number.
        """
        self.require_published()
        if self.versions is None:
            renaming = _renaming(Path(self.name).absolute(), "1")
            raise ResourceError(
                f"{self.name} is a SavedModel in a folder that is not named by a version. "
                f"Expected: a name such as 1. Rename it: {renaming}"
            )
        return self.versions

    def published(self) -> dict[int, manifest.PublishedVersion]:
        """Return the intact versions by number, the newest first.

        Raises:
            ResourceError: There is none.
        """
        base = self.numbered()
        intact = {version.number: version for version in manifest.versions(base)}
        if not intact:
            raise _not_intact(base, manifest.version_numbers(base)[-_NAMED:])
        return intact

    def published_version(self, number: int | None = None) -> manifest.PublishedVersion:
        """Return the version of a number, or the one that is named; see `model`.

        Raises:
            ResourceError: It is damaged, or no run published it.
        """
        base = self.numbered()
        folder = self.model(number).folder
        for version in manifest.readable(base):
            if version.path == folder:
                return version
        raise _not_intact(base, [int(folder.name)])

    def _intact(self, wanted: str | None) -> Path:
        """Return the folder of one version, after comparing its files with its manifest."""
        folder = self.folder
        if folder is None:
            base = self.numbered()
            numbers = [str(number) for number in manifest.version_numbers(base)]
            if wanted not in (None, *numbers):
                raise _no_version(base, str(wanted))
            # Versions that no run has published have no manifest; of them, the last one is taken.
            newest = None if wanted else manifest.latest(base)
            folder = newest.path if newest else base / (wanted or numbers[-1])
        what = version_damage(folder) if (folder / manifest.MANIFEST).exists() else ""
        if what:
            raise ResourceError(
                f"{folder} is damaged: {what}. Choose another version, or publish an intact one "
                f"with: imgpipe rollback {shlex.quote(str(folder.parent))}"
            )
        return folder


def find(path: Path, run: str | None = None) -> NamedModel:
    """Find the model that a path means.

    Args:
        path: Output folder of a run, folder of numbered versions, or one version; or the folder of
            a run, for its model, which need not be published.
        run: Name of a run of the output folder, or `NEWEST`; None for none.

    Raises:
        ConfigError: TensorFlow would take the path for a pattern, or there is no such version.
        ResourceError: There is no model, no such run, or the model is one of another program.
    """
    path = path.expanduser()
    chosen = _chosen_run(path, run)
    if chosen is not None:
        return _model_of(chosen)
    if why := pattern_in(path.absolute()):
        raise ConfigError(why)
    if (path / SAVED_MODEL).is_file():
        return _one_model(path)
    for base in _folders_of_versions(path):
        _refuse_zeros(base)
        if numbers := manifest.version_numbers(base):
            _refuse_other_programs(base / str(numbers[-1]))
            return NamedModel(str(path), base.absolute())
    if path.name.isdecimal() and manifest.version_numbers(path.parent):
        raise _no_version(path.parent, path.name)
    raise ResourceError(
        _nothing_published(path)
        or f"no model in {path}. Expected: the output folder of a run that published one, a folder "
        f"of numbered versions such as {path / '1'}, or one version. Received: "
        f"{places.received(path)}. Run `imgpipe run`, or name another folder."
    )


def _chosen_run(path: Path, name: str | None) -> PastRun | None:
    """Return the run whose model is meant; None where a published version is meant."""
    path = places.plain(path)
    if name == NEWEST:
        return places.run(places.output_folder(path))
    if name is not None:
        return places.run(places.output_folder(path) / RUNS / name)
    is_run = (path / CONFIG).is_file() or not path.exists()
    if is_run and path.parent.name == RUNS and run_folders.started(path.parent.parent):
        return places.run(path)
    return None


def _model_of(run: PastRun) -> NamedModel:
    """Return the version that a run published, or its model if there is no such version."""
    name = f"run {run.name}"
    if run.version is not None:
        version = run.versions_folder / str(run.version)
        if (version / SAVED_MODEL).is_file():
            return NamedModel(name, version.parent, version)
    return NamedModel(name, run=run)


def _one_model(path: Path) -> NamedModel:
    """Return the model in the folder of a SavedModel."""
    folder = path.absolute()
    # "." and a link such as "current" stand for a version; its folder is named by the number.
    if not folder.name.isdecimal() and folder.resolve().name.isdecimal():
        folder = folder.resolve()
    _refuse_other_programs(folder)
    if not folder.name.isdecimal() or not int(folder.name):
        return NamedModel(str(path), folder=folder)
    _refuse_zeros(folder.parent, folder.name)
    return NamedModel(str(path), folder.parent, folder)


def _folders_of_versions(path: Path) -> Iterator[Path]:
    """Yield the folders that may hold the versions, the nearest first."""
    yield path
    yield path / VERSIONS
    published = [run for run in past_runs.read(path) if run.version is not None]
    if published:  # into the folder of `push.directory`
        yield published[-1].versions_folder


def _refuse_zeros(base: Path, names: str = "0*") -> None:
    """Refuse versions such as 0001, which TensorFlow Serving takes for version 1.

    Raises:
        ResourceError: There is one.
    """
    for model in sorted(base.glob(f"{names}/{SAVED_MODEL}")):
        folder = model.parent
        name = folder.name
        if name.isdecimal() and int(name) and name.startswith("0"):
            raise ResourceError(
                f"{folder} is named by a number with zeros before it. Expected: the number of a "
                f"version alone. Rename it: {_renaming(folder, str(int(name)))}"
            )


def _refuse_other_programs(folder: Path) -> None:
    """Refuse a SavedModel that names no classes.

    Raises:
        ResourceError: It is such a model.
    """
    if (folder / SAVED_MODEL).is_file() and not (folder / VOCABULARY).is_file():
        raise ResourceError(
            f"{folder} has no {VOCABULARY}. Expected: a model that imgpipe has exported, which "
            "names its classes there. TensorFlow Serving serves the models of other programs."
        )


def _renaming(folder: Path, name: str) -> str:
    """Return the command that renames a folder."""
    return shlex.join(["mv", str(folder), str(folder.parent / name)])


def _not_intact(base: Path, numbers: Sequence[int]) -> ResourceError:
    damage = (f"version {number}: {version_damage(base / str(number))}" for number in numbers)
    return ResourceError(
        f"no version in {base} is intact as a run published it ({'; '.join(damage)}). Run "
        "`imgpipe run`, which publishes one."
    )


def _no_version(base: Path, number: str) -> ConfigError:
    numbers = ", ".join(map(str, manifest.version_numbers(base)))
    return ConfigError(f"{base} has no version {number}. Versions: {numbers}.")


def _nothing_published(path: Path) -> str:
    """Say what can be done in an output folder none of whose runs has published a model.

    Returns:
        The sentences, with a line for each command; "" for a folder without runs, or with one that
        published a model.
    """
    out = places.output_folder_above(path)
    runs = past_runs.read(out)
    if not runs or any(run.version is not None for run in runs):
        return ""
    said = f"no model is published in {path}, although {out} has {plural(len(runs), 'run')}."
    evaluated = [run for run in runs if run.decided_by is not None]
    if evaluated:
        return f"{said} The newest that evaluated one: {_ways_on(evaluated[-1], NEWEST)}"
    look = f"Look at it:\n  imgpipe open {shlex.quote(str(out))}"
    return f"{said} None has evaluated one. The newest: {_ended(runs[-1])}. {look}"


def _ways_on(run: PastRun, name: str) -> str:
    """Say how a run ended that did not publish its model, how to try the model, and publish it."""
    out = shlex.quote(str(run.out))
    said = (
        f"{_ended(run)}. Try this model without publishing it (predict, explain and evaluate take "
        f"--run, too):\n  imgpipe serve {out} --run {shlex.quote(name)}"
    )
    for command in run.publish_commands:
        said += f"\nOr {command['text']}:\n  {command['command']}"
    return said


def _trained(run: PastRun) -> Path:
    """Return the folder of the SavedModel that a run has trained, in its artifacts.

    Raises:
        ConfigError: TensorFlow would take the path for a pattern.
        ResourceError: The run evaluated no model, or its model was removed or is damaged.
    """
    if why := pattern_in(run.out):
        raise ConfigError(why)
    if run.decision is None:
        raise ResourceError(
            f"run {run.name} has evaluated no model: {_ended(run)}. Expected: a run that did. "
            f"`imgpipe runs {shlex.quote(str(run.out))}` lists the runs."
        )
    again = f"Make it again: {run_command(str(run.folder), run.moved)}"
    uri = run.artifact("ImageTrainer", "model")
    model = Path(uri) / SAVED_MODEL_FOLDER
    if not uri or not (model / SAVED_MODEL).is_file():
        kept = run.config.get("run.keep")
        raise ResourceError(
            f"the model of run {run.name} was removed to save space: only the last {kept} runs "
            f"(run.keep) and published versions keep theirs. {again}"
        )
    wrong = integrity.damage(Path(uri), complete=True)
    if wrong:
        raise ResourceError(f"the model of run {run.name} is damaged: {wrong}. {again}")
    return model


def _ended(run: PastRun) -> str:
    """Say how a run ended, without a full stop."""
    if run.summary is None:
        return f"it is {run.status}" if run.status == "working" else f"it was {run.status}"
    return run.summary["verdict"].splitlines()[0]
