"""A published version, or the model of a run, as evaluations and exports see it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from imgpipe.components.common.storage import known_images
from imgpipe.components.common.storage.manifest import PROVENANCE
from imgpipe.components.report.commands import NextCommand
from imgpipe.models.errors import ImgpipeError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.version_files import MODEL_DIGEST, VOCABULARY
from imgpipe.pipeline.output import places
from imgpipe.pipeline.output.past_runs import PastRun

#: How runs end that have decided about their model.
_DECIDED = ("blessed", "not_blessed", "not_published")


class Model:
    """A published version, the model of a run, or another model that imgpipe has exported.

    Args:
        folder: Folder of the version, or of the SavedModel.
        trained_by: The run that trained a model which is not published; None for others.
    """

    def __init__(self, folder: Path, trained_by: PastRun | None = None) -> None:
        self.folder = folder
        self._trained_by = trained_by

    @property
    def notice(self) -> str:
        """Why the model is not published, as a sentence; "" for a published version."""
        if self._trained_by is None or self._trained_by.summary is None:
            return ""
        verdict = self._trained_by.summary["verdict"]
        if self._trained_by.status in _DECIDED:  # with which the verdict begins
            return f"This model was {verdict}."
        return f"This model was not published. Its run ended: {verdict}."

    @property
    def publish_commands(self) -> list[NextCommand]:
        """The commands that publish it; empty for a published version, or if none can."""
        return self._trained_by.publish_commands if self._trained_by is not None else []

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities.

        The file in the assets of the SavedModel decides. The manifest, the schema and the model
        card repeat the names for people and for programs that do not open the model.
        """
        return tuple((self.folder / VOCABULARY).read_text("utf-8").splitlines())

    @property
    def version(self) -> int | None:
        """Number of the version, None if its folder is not named by one."""
        return int(self.folder.name) if self.folder.name.isdecimal() else None

    @property
    def image_size(self) -> int:
        """Width and height of the network's input, from the file that describes the version.

        Raises:
            ResourceError: The file does not say it.
        """
        try:
            return int(json_object.read(self.folder / MODEL_DIGEST)["image_size"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            raise ResourceError(
                f"{self.folder} does not say the size of its images. Expected: image_size in "
                f"{MODEL_DIGEST}, which imgpipe writes. Run the pipeline again."
            ) from None

    @property
    def unknown_below(self) -> float:
        """Probability below which the model answers "unknown" instead of a class; 0 for never."""
        try:
            return float(json_object.read(self.folder / MODEL_DIGEST).get("unknown_below", 0.0))
        except (OSError, ValueError, TypeError):  # of another program
            return 0.0

    @property
    def run(self) -> PastRun | None:
        """The run that made the model; None if it cannot be found."""
        if self._trained_by is not None:
            return self._trained_by
        try:
            return places.run(self.folder)
        except ImgpipeError:
            return None

    @property
    def training_images(self) -> str | None:
        """Folder of the images of the run that made the version; None if it cannot be found."""
        uri = self.run.artifact("ImageFilter", "examples") if self.run else ""
        return uri if uri and Path(uri).is_dir() else None

    @property
    def known_images(self) -> Mapping[str, str] | None:
        """Split of each image of that run by its short hash; None without such a list."""
        return known_images.read(self.folder / PROVENANCE / known_images.FILE)
