"""A published version, or the model of a run, as evaluations and exports see it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from imgpipe.components.common.storage import known_images
from imgpipe.components.common.storage.manifest import PROVENANCE
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.version_files import MODEL_DIGEST, VOCABULARY
from imgpipe.pipeline.output import places
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.published import trained_model


class Model:
    """A published version, the model of a run, or another model that imgpipe has exported.

    Args:
        folder: Folder of the version, or of the SavedModel.
        trained_by: The run that trained a model which is not published; None for others.
    """

    def __init__(self, folder: Path, trained_by: PastRun | None = None) -> None:
        self.folder = folder
        self._trained_by = trained_by

    @classmethod
    def of(cls, path: Path, number: int | None = None, run: str | None = None) -> Model:
        """Find the model that the arguments of a command mean.

        Args:
            path: Output folder of a run, folder of versions, one version, or the folder of a run:
                then its model, which need not be published.
            number: Number of the version, None for the newest intact one.
            run: Name of a run of the output folder, or `trained_model.NEWEST`; None for none.

        Raises:
            ConfigError: There is no version of this number, or a run is named beside it.
            ResourceError: There is no model, or it is damaged or was removed.
        """
        chosen = trained_model.chosen_run(path, run)
        if chosen is None:
            return cls(places.version(path, number))
        if number is not None:
            raise ConfigError(
                f"run {chosen.name} has one model. Received: version {number}. Name either a run "
                "or a version."
            )
        version = trained_model.published_version(chosen)
        if version is not None:
            return cls(places.version(version))
        return cls(trained_model.folder(chosen), chosen)

    @property
    def notice(self) -> str:
        """Why the model is not published, as a sentence; "" for a published version."""
        return trained_model.notice(self._trained_by) if self._trained_by is not None else ""

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities.

        The file in the assets of the SavedModel decides. The manifest, the schema and the model
        card repeat the names for people and for programs that do not open the model.

        Raises:
            ConfigError: The model names no classes, so that labels cannot be compared with them.
        """
        try:
            return tuple((self.folder / VOCABULARY).read_text("utf-8").splitlines())
        except OSError:
            raise ConfigError(
                f"{self.folder} has no {VOCABULARY}. Expected: a model that imgpipe has exported, "
                "which names its classes there."
            ) from None

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
