"""A published version, or the model of a run, as evaluations and exports see it."""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path

from imgpipe.components.common.storage import manifest
from imgpipe.components.common.storage.manifest import PublishedVersion
from imgpipe.models.errors import ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.described_files import MODEL_DIGEST, VOCABULARY, version_damage
from imgpipe.models.finding import Finding
from imgpipe.pipeline.output.output_folder import OutputFolder, plain
from imgpipe.pipeline.output.past_run import PastRun

#: How runs end that have decided about their model.
_DECIDED = ("blessed", "not_blessed", "not_published")
_NAMED = 3  # versions whose damage a message names


class Model:
    """A published version, the model of a run, or another model that imgpipe has exported.

    Args:
        folder: Folder of the version, or of the SavedModel.
        trained_by: The run that trained a model which is not published; None for others.
        is_newest: Whether a folder of versions was named, of which this is the newest intact one.
    """

    def __init__(
        self, folder: Path, trained_by: PastRun | None = None, is_newest: bool = False
    ) -> None:
        self.folder = folder
        self.is_newest = is_newest
        self._trained_by = trained_by

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
    def published(self) -> PublishedVersion:
        """The published version with its manifest.

        Raises:
            ResourceError: It is not intact, or no run published it.
        """
        version = manifest.intact(self.versions, int(self.folder.name))
        if version is None:
            raise damaged(self.folder, version_damage(self.folder))
        return version

    @property
    def notice(self) -> str:
        """Why the model is not published, as a sentence; "" for a published version."""
        if self._trained_by is None:
            return ""
        verdict = self._trained_by.verdict
        if self._trained_by.status in _DECIDED:  # with which the verdict begins
            return f"This model was {verdict}."
        return f"This model was not published. Its run ended: {verdict}."

    @property
    def publish_commands(self) -> list[Finding]:
        """The commands that publish it; empty for a published version, or if none can."""
        return self._trained_by.publish_commands if self._trained_by is not None else []

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities.

        The file in the assets of the SavedModel decides. The manifest and the schema
        repeat the names for people and for programs that do not open the model.
        """
        return tuple((self.folder / VOCABULARY).read_text("utf-8").splitlines())

    @property
    def version(self) -> int | None:
        """Number of the version, None if its folder is not named by one, as 01 is none."""
        name = self.folder.name
        return int(name) if name.isdecimal() and not name.startswith("0") else None

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
    def run(self) -> PastRun | None:
        """The run that made the model; None if it cannot be found."""
        if self._trained_by is not None or self.version is None:
            return self._trained_by
        return OutputFolder.above(self.folder).publisher(plain(self.folder))

    @property
    def training_images(self) -> str | None:
        """Folder of the images of the run that made the version; None if it cannot be found."""
        return (self.run.artifact("ImageFilter", "examples") if self.run else "") or None


def damaged(folder: Path, damage: str) -> ResourceError:
    """Build the error for a model that is damaged, with what can be used instead."""
    base = folder.parent
    others = [str(version.number) for version in manifest.versions(base)]
    way = f"Choose another version: {', '.join(others)}"
    if not others:
        way = "Run `imgpipe run`, which publishes one."
    elif folder.name == str(manifest.version_numbers(base)[-1]):  # it is served
        way += f"; or publish an intact one again with: imgpipe rollback {shlex.quote(str(base))}"
    return ResourceError(f"{folder} is not intact as a run published it: {damage}. {way}")


def not_intact(base: Path) -> ResourceError:
    """Build the error for a folder of versions of which none is intact."""
    numbers = manifest.version_numbers(base)[-_NAMED:]
    damage = (f"version {number}: {version_damage(base / str(number))}" for number in numbers)
    return ResourceError(
        f"no version in {base} is intact as a run published it ({'; '.join(damage)}). Run "
        "`imgpipe run`, which publishes one."
    )
